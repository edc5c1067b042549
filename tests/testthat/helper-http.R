# Requests. Each one has a new connection and a time limit, unless said otherwise.

# Of a server, by its handle or its address.
request <- function(server, path, method = "GET", body = NULL, headers = list(), ..., type = NULL) {
  handle <- request_handle(method, body, headers, type, ...)
  response(curl::curl_fetch_memory(paste0(address(server), path), handle = handle))
}

request_handle <- function(method = "GET", body = NULL, headers = list(), type = NULL, ...) {
  handle <- curl::new_handle(fresh_connect = TRUE, forbid_reuse = TRUE, followlocation = FALSE)
  do.call(curl::handle_setopt, utils::modifyList(list(handle = handle, timeout_ms = 60000), list(...)))
  if (method == "HEAD") {
    curl::handle_setopt(handle, nobody = TRUE)
  } else if (method != "GET" || !is.null(body)) {
    body <- if (is.raw(body)) body else charToRaw(enc2utf8(body %||% ""))
    curl::handle_setopt(handle, post = TRUE, postfieldsize = length(body), postfields = body, customrequest = method)
    # curl would ask first for bodies above 1 MB, and wait.
    headers <- c(list(Expect = "", `Content-Type` = type %||% "application/json"), headers)
  }
  do.call(curl::handle_setheaders, c(list(handle), headers))
  handle
}

address <- function(server) {
  if (is.character(server)) server else server$url
}

response <- function(fetched) {
  body <- fetched$content
  list(
    status = fetched$status_code,
    headers = parse_headers(fetched$headers),
    body = body,
    text = if (!any(body == 0)) rawToChar(body)
  )
}

# All headers as a list by lower-case name; a name may come twice.
parse_headers <- function(raw) {
  lines <- curl::parse_headers(raw)
  # After `100 Continue` or a redirect there is more than one head: the last one counts.
  starts <- grep("^HTTP/", lines)
  lines <- lines[-seq_len(max(starts))]
  names <- tolower(sub(":.*$", "", lines))
  rlang::set_names(as.list(sub("^[^:]*:[[:space:]]*", "", lines)), names)
}

json <- function(response) {
  jsonlite::fromJSON(response$text)
}

# The first of the pools that a page of faucet's tells of.
first_pool <- function(response) {
  jsonlite::fromJSON(response$text, simplifyDataFrame = FALSE)$pools[[1]]
}

# Many requests at once: `add()` them, then `wait()`. Each response, or the text of its failure, is in `done` by its
# key.
crowd <- function() {
  pool <- curl::new_pool(total_con = 1000, host_con = 1000, multiplex = FALSE)
  crowd <- new.env()
  crowd$done <- list()
  crowd$handles <- list()
  crowd$count <- 0L
  crowd$add <- function(server, path, key = path, ...) {
    force(key)
    crowd$count <- crowd$count + 1L
    crowd$handles[[key]] <- request_handle(...)
    curl::curl_fetch_multi(
      paste0(address(server), path),
      done = function(fetched) crowd$done[[key]] <- response(fetched),
      fail = function(message) crowd$done[[key]] <- message,
      pool = pool,
      handle = crowd$handles[[key]]
    )
    crowd$step()
  }
  # The client hangs up.
  crowd$leave <- function(key) {
    curl::multi_cancel(crowd$handles[[key]])
    crowd$count <- crowd$count - 1L
  }
  # Moves all requests on without waiting.
  crowd$step <- function() {
    curl::multi_run(timeout = 0, pool = pool)
    invisible(TRUE)
  }
  crowd$wait <- function(keys = NULL, timeout = 120) {
    wait_until(
      {
        curl::multi_run(timeout = 0.05, poll = TRUE, pool = pool)
        if (is.null(keys)) length(crowd$done) == crowd$count else all(keys %in% names(crowd$done))
      },
      timeout = timeout, what = "all responses"
    )
    invisible(crowd$done)
  }
  crowd
}
