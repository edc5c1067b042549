# Clients that each ask again as soon as they are answered, from an R process of their own, so that the test can do other
# things meanwhile. `servers`: they take turns with these. Each request has an id of its own, which is part of the query.

# `$count()`: how many were answered so far. `$stop()`: no more are sent, and when all are answered, a data frame tells of
# each request: its id, status (0: none), cause (the header Faucet-Error), pod and pid (that answered), what went wrong.
local_load <- function(servers, path = "/work?ms=20", method = "GET", clients = 8, prefix = "load", env = parent.frame()) {
  files <- withr::local_tempdir(.local_envir = env)
  if (!is.list(servers)) servers <- list(servers)
  process <- callr::r_bg(
    ask_again,
    list(urls = paste0(vapply(servers, address, ""), path), method, clients, prefix, files),
    stderr = file.path(files, "stderr")
  )
  withr::defer(process$kill(), envir = env)
  load <- list(
    count = function() {
      if (!process$is_alive()) process$get_result()
      sum(file.size(file.path(files, "answers")), na.rm = TRUE)
    },
    # So many more.
    wait_for = function(n) {
      target <- load$count() + n
      wait_until(load$count() >= target, what = paste(n, "more answers"))
    },
    stop = function() {
      file.create(file.path(files, "stop"))
      process$wait(60000)
      process$get_result()
    }
  )
  load$wait_for(clients)
  load
}

# In the other process.
ask_again <- function(urls, method, clients, prefix, files) {
  pool <- curl::new_pool(total_con = 1000, host_con = 1000, multiplex = FALSE)
  answers <- file(file.path(files, "answers"), "w")
  done <- list()
  sent <- 0
  over <- FALSE

  note <- function(id, status, cause = "", pod = "", pid = 0L, failure = "") {
    done[[length(done) + 1]] <<- data.frame(id, status, cause, pod, pid, failure)
    cat(".", file = answers)
    flush(answers)
    if (!over) ask()
  }
  ask <- function() {
    sent <<- sent + 1
    id <- paste0(prefix, "-", sent)
    handle <- curl::new_handle(fresh_connect = TRUE, forbid_reuse = TRUE, timeout_ms = 60000)
    if (method == "POST") curl::handle_setopt(handle, post = TRUE, postfieldsize = 0, postfields = raw())
    curl::curl_fetch_multi(
      paste0(urls[[1 + (sent - 1) %% length(urls)]], "&id=", id),
      done = function(response) {
        headers <- tolower(curl::parse_headers(response$headers))
        cause <- sub("^faucet-error: *", "", grep("^faucet-error:", headers, value = TRUE))
        body <- tryCatch(jsonlite::fromJSON(rawToChar(response$content)), error = function(e) list())
        note(id, response$status_code, c(cause, "")[[1]], body$pod %||% "", body$pid %||% 0L)
      },
      fail = function(message) {
        # Against one that cannot be reached, not all the time.
        Sys.sleep(0.01)
        note(id, 0L, failure = message)
      },
      pool = pool, handle = handle
    )
  }
  `%||%` <- function(x, y) if (is.null(x)) y else x

  for (i in seq_len(clients)) ask()
  repeat {
    over <- file.exists(file.path(files, "stop"))
    if (over && length(done) == sent) break
    curl::multi_run(timeout = 0.05, poll = TRUE, pool = pool)
  }
  close(answers)
  do.call(rbind, done)
}

# Those that were not answered with 200, in short: no row if all is well.
failed <- function(answers) {
  answers <- answers[answers$status != 200, ]
  rownames(answers) <- NULL
  answers
}
