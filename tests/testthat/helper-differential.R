# The same requests at the same API behind several ways of serving it: what a client gets is compared byte for byte.

# The ways, each a function that begins to serve the API in a directory until `env` ends, and returns another one, which waits
# for the address. The first way is what the others are measured by.
ways <- list(
  plumber = function(dir, env) plumber_alone(dir, env),
  native = function(dir, env) behind_faucet(dir, env, worker_type = "native"),
  uncompiled = function(dir, env) {
    withr::with_envvar(c(FAUCET_COMPILE = "false"), behind_faucet(dir, env, worker_type = "native"))
  },
  http = function(dir, env) behind_faucet(dir, env, worker_type = "http")
)

behind_faucet <- function(dir, env, ...) {
  server <- local_server(dir, workers = 1, ..., env = env)
  function() server$url
}

# plumber, served by httpuv, which gets no request but those of the comparison.
plumber_alone <- function(dir, env) {
  code <- paste0(
    "library(plumber); (function(port) {", "cat(port, '\\n');",
    "plumb(dir = \"", dir, "\")$run(port = port, quiet = TRUE) })(httpuv::randomPort())"
  )
  alone <- local_rscript(code, wd = dir, env = env)
  function() {
    wait_until(
      {
        if (!alone$process$is_alive()) {
          stop(paste(c("plumber has ended:", alone$stderr()), collapse = "\n"))
        }
        port <- grep("^[0-9]+ *$", alone$stdout(), value = TRUE)
        url <- paste0("http://127.0.0.1:", trimws(port))
        if (length(port) > 0 && accepts_connections(url)) url
      },
      what = "plumber to listen"
    )
  }
}

# What the front changes in a request, by design: plumber alone gets it changed already, each by a function of the request.
known_rewrites <- list(
  list(
    what = "a body in chunks",
    why = "The front has all of a body before a worker gets it: R is told its length, and `plumber.maxRequestSize` goes by that.",
    rewrite = function(request) {
      request$chunks <- FALSE
      request
    }
  ),
  list(
    what = "a target with bytes that are not ASCII, with a scheme and a host, or with a fragment",
    why = "Such bytes are percent-encoded; the host has found its pool; and a fragment is none of a server's business.",
    rewrite = function(request) {
      target <- sub("#.*$", "", sub("^http://[^/]*", "", request$target, useBytes = TRUE), useBytes = TRUE)
      bytes <- as.integer(charToRaw(target))
      request$target <- paste(ifelse(bytes > 127, sprintf("%%%X", bytes), intToUtf8(bytes, multiple = TRUE)), collapse = "")
      request
    }
  ),
  list(
    what = "headers of one connection, of proxies, and with `_` in their names",
    why = paste(
      "A connection's are its own (RFC 9110, 7.6.1); a client is not to say who it is; and R could not tell X_A from X-A.",
      "What the front adds, X-Forwarded-* and X-Request-Id, is masked in the routers."
    ),
    rewrite = function(request) {
      names <- sub(":.*$", "", request$headers, useBytes = TRUE)
      dropped <- c("te", "keep-alive", "proxy-connection", "proxy-authorization", "expect", "forwarded", "x-real-ip")
      request$headers <- request$headers[!tolower(names) %in% dropped & !grepl("_", names, fixed = TRUE)]
      request
    }
  ),
  list(
    what = "the length of no body",
    why = "Where a body is expected, its absence is said (RFC 9110, 8.6), and nowhere else.",
    rewrite = function(request) {
      if (length(request$body) == 0) {
        said <- grepl("^content-length:", request$headers, ignore.case = TRUE, useBytes = TRUE)
        expected <- request$method %in% c("POST", "PUT", "PATCH")
        request$headers <- c(request$headers[!said], if (expected) "Content-Length: 0")
      }
      request
    }
  ),
  list(
    what = "white space after the value of a header",
    why = "It is no part of it (RFC 9112, 5.1). httpuv keeps tabs.",
    rewrite = function(request) {
      request$headers <- gsub("[ \t]+(\r\n|$)", "\\1", request$headers, useBytes = TRUE)
      request
    }
  )
)

rewritten <- function(request) {
  for (known in known_rewrites) request <- known$rewrite(request)
  request
}

# What no router is made to do, as the answer differs by design.
never_made <- list(
  list(
    what = "a body that is a number",
    why = "httpuv sends bytes with these codes. faucet says 500 to the client, and to the log what is wrong."
  ),
  list(
    what = "a header with a line break, a status that is none",
    why = "What cannot be said in HTTP is a 500, where httpuv lets an API's client write headers into its answers."
  ),
  list(
    what = "bytes of a body after lines of it",
    why = "Where a line ends in a CR alone, R's connections, and so httpuv, lose the byte after it."
  ),
  list(
    what = "a request that is locked",
    why = "httpuv ends when it cannot write into it."
  ),
  list(
    what = "how deep the calls are, as sys.calls() tells it",
    why = "plumber's own calls are not there in a compiled route."
  ),
  list(
    what = "a response that is `NULL`, or that of a promise whose body is a list",
    why = "httpuv never answers then, which takes time. faucet says 500, which is what such a request is measured by."
  )
)

# What differs by design, and why. Each is taken out of every answer before it is compared, by a function of an answer and its
# request.
known_differences <- list(
  list(
    what = "Date, Connection, Keep-Alive, X-Request-Id",
    why = "They belong to a moment and a connection; the id is made by faucet's front for each request.",
    take_out = function(answer, request) without(answer, c("date", "connection", "keep-alive", "x-request-id"))
  ),
  list(
    what = "the words after the status, and HTTP's version",
    why = "Clients ignore them (RFC 9112, 4). httpuv says \"Dunno\" of what it does not know, such as 422.",
    take_out = function(answer, request) {
      answer$reason <- NULL
      answer
    }
  ),
  list(
    what = "the case of headers' names, and the order of different ones",
    why = "HTTP gives neither a meaning (RFC 9110, 5.1 and 5.3). The front writes them in lower case.",
    take_out = function(answer, request) {
      answer$headers <- answer$headers[order(names(answer$headers), method = "radix")]
      answer
    }
  ),
  list(
    what = "chunks or length",
    why = paste(
      "Framing is each server's own. httpuv says no length where there is no body, so that a client waits for the end of the",
      "connection; and whatever length an API claims, such as that of a folder, where faucet says the true one."
    ),
    take_out = function(answer, request) without(answer, c("content-length", "transfer-encoding"))
  ),
  list(
    what = "compression",
    why = "For clients that take gzip, httpuv compresses all it sends, faucet what is text and gains by it; and it tells caches.",
    take_out = function(answer, request) {
      if (identical(answer$headers[["content-encoding"]], "gzip")) {
        answer$body <- memDecompress(answer$body, "gzip")
        answer <- without(answer, "content-encoding")
      }
      answer$headers <- answer$headers[!(names(answer$headers) == "vary" & answer$headers == "Accept-Encoding")]
      answer
    }
  ),
  list(
    what = "where something is in memory",
    why = "Each process has its own addresses.",
    take_out = function(answer, request) {
      if (length(grepRaw("0[xX]", answer$body)) > 0 && !any(answer$body == 0)) {
        answer$body <- charToRaw(gsub("0[xX][0-9a-fA-F]{6,}", "<address>", rawToChar(answer$body), useBytes = TRUE))
      }
      answer
    }
  ),
  list(
    what = "whether R knows that a header's text is UTF-8",
    why = "httpuv leaves that to the locale. It is seen only in what R serializes.",
    take_out = function(answer, request) {
      if (identical(answer$headers[["content-type"]], "application/rds")) {
        answer$body <- without_marks(answer$body)
      }
      answer
    }
  ),
  list(
    what = "the words of an answer that is no list",
    why = "httpuv tells its client of its own failure to take it apart; faucet says that in the log.",
    take_out = function(answer, request) {
      if (identical(latin1(answer$body), "ERROR: $ operator is invalid for atomic vectors")) {
        answer$body <- charToRaw("An exception occurred.")
      }
      answer
    }
  ),
  list(
    what = "the body of an answer to HEAD",
    why = "HTTP forbids one (RFC 9110, 9.3.2). httpuv sends it.",
    take_out = function(answer, request) {
      if (request$method == "HEAD") answer$body <- raw()
      answer
    }
  )
)

without <- function(answer, names) {
  answer$headers <- answer$headers[!names(answer$headers) %in% names]
  answer
}

# What R has serialized, in which no text is marked as UTF-8.
without_marks <- function(bytes) {
  if (identical(utils::head(bytes, 2), charToRaw("A\n"))) {
    return(charToRaw(gsub("\n32777\n", "\n9\n", rawToChar(bytes), fixed = TRUE)))
  }
  for (at in grepRaw(as.raw(c(0, 0, 128, 9)), bytes, fixed = TRUE, all = TRUE)) bytes[[at + 2]] <- as.raw(0)
  bytes
}

without_known <- function(answer, request) {
  if (is.list(answer)) for (known in known_differences) answer <- known$take_out(answer, request)
  answer
}

# One request on a connection of its own: a list of `status`, `reason`, `headers` (a list by lower-case name) and `body`; or, in
# words, why there is none.
exchange <- function(url, bytes, timeout = 10) {
  port <- as.integer(sub("^.*:", "", url))
  socket <- socketConnection("127.0.0.1", port, blocking = TRUE, open = "r+b", timeout = timeout)
  on.exit(close(socket))
  # The socket's own timeout begins anew with all that happens in this process, such as a server's messages.
  setTimeLimit(elapsed = timeout, transient = TRUE)
  on.exit(setTimeLimit(), add = TRUE)
  writeBin(bytes, socket)
  got <- list()
  repeat {
    piece <- suppressWarnings(tryCatch(readBin(socket, "raw", 65536), error = identity))
    if (inherits(piece, "error")) {
      if (!grepl("time limit", conditionMessage(piece), fixed = TRUE)) break
      return(no_answer)
    }
    if (length(piece) == 0) break
    got[[length(got) + 1]] <- piece
  }
  read_answer(as.raw(unlist(got)))
}

no_answer <- "no answer in time"

read_answer <- function(bytes) {
  end <- head_end(bytes)
  if (is.null(end)) {
    return(if (length(bytes) == 0) "closed without an answer" else "closed within the head")
  }
  lines <- strsplit(latin1(bytes[seq_len(end - 4)]), "\r\n", fixed = TRUE)[[1]]
  status <- as.integer(sub("^HTTP/[0-9.]+ ([0-9-]+).*$", "\\1", lines[[1]]))
  rest <- bytes[-seq_len(end)]
  if (status == 100) {
    return(read_answer(rest))
  }
  fields <- lines[-1]
  headers <- as.list(trimws(sub("^[^:]*:", "", fields), whitespace = "[ \t]"))
  names(headers) <- tolower(sub(":.*$", "", fields))
  if (grepl("chunked", headers[["transfer-encoding"]] %||% "", ignore.case = TRUE)) rest <- unchunked(rest)
  list(status = status, reason = lines[[1]], headers = headers, body = rest)
}

# Where the first empty line of a head ends.
head_end <- function(bytes) {
  found <- grepRaw("\r\n\r\n", bytes, fixed = TRUE)
  if (length(found) > 0) found + 3L
}

# Each byte as a character, so that any can be compared and shown.
latin1 <- function(bytes) {
  text <- rawToChar(bytes[bytes != 0])
  Encoding(text) <- "latin1"
  text
}

unchunked <- function(bytes) {
  body <- list()
  repeat {
    end <- grepRaw("\r\n", bytes, fixed = TRUE)
    if (length(end) == 0) {
      return(c(unlist(body), charToRaw("(broken off)")))
    }
    size <- strtoi(sub("[^0-9a-fA-F].*$", "", latin1(bytes[seq_len(end - 1)])), 16L)
    if (size == 0) {
      return(as.raw(unlist(body)))
    }
    body[[length(body) + 1]] <- bytes[end + 1 + seq_len(size)]
    bytes <- bytes[-seq_len(end + 1 + size + 2)]
  }
}

# Serves an API in each way; calls `use` with a function that sends a request to all of them and returns the comparable answers.
# `write` is given a directory, and puts the API there.
with_ways <- function(write, compared, use) {
  env <- environment()
  dir <- normalizePath(withr::local_tempdir())
  write(dir)
  started <- lapply(ways[compared], function(start) start(dir, env))
  urls <- vapply(started, function(address) address(), "")
  use(function(request) {
    sent <- lapply(urls, function(url) request_bytes(request))
    sent[[1]] <- request_bytes(rewritten(request))
    # What never reaches a worker is not to reach plumber, either, which might be another one afterwards.
    asked <- if (is_refused(request)) compared[-1] else compared
    lapply(Map(exchange, urls[asked], sent[asked]), without_known, request)
  })
}

# The requests to which the answers differ, each as a list of `request` and `answers`.
differing <- function(ask, requests) {
  late <- 0
  found <- lapply(requests, function(request) {
    answers <- ask(request)
    late <<- if (any(vapply(answers, identical, NA, no_answer))) late + 1 else 0
    # Whoever still computes would be late with all that follow.
    if (late == 5) stop("Five requests in a row have had no answer; the last: ", bytes_as_code(request_bytes(request)))
    if (!is_fine(answers, request)) list(request = request, answers = answers)
  })
  Filter(Negate(is.null), found)
}

is_fine <- function(answers, request) {
  if (is_refused(request)) {
    all(vapply(answers, was_refused, NA))
  } else if (identical(answers[[1]], no_answer)) {
    all(vapply(answers[-1], function(answer) is.list(answer) && answer$status == 500, NA))
  } else {
    all(vapply(answers[-1], identical, NA, answers[[1]]))
  }
}

# What the front refuses by design, and why: a function of a request says whether it does.
known_refusals <- list(
  list(
    what = "characters in a target that no URI has, or bytes that are no UTF-8",
    why = "They have to be percent-encoded (RFC 3986), and all clients do. httpuv takes them as they are.",
    applies = function(request) {
      if (!validUTF8(request$target)) {
        return(TRUE)
      }
      target <- sub("#.*$", "", request$target, useBytes = TRUE)
      path <- sub("[?].*$", "", target, useBytes = TRUE)
      query <- sub("^[^?]*", "", target, useBytes = TRUE)
      grepl("[<>`]", path, useBytes = TRUE) || grepl("[<>\"]", query, useBytes = TRUE)
    }
  ),
  list(
    what = "a header that goes on in the next line, or has a space before its colon; no Host, or two",
    why = "Servers must refuse them (RFC 9112, 5.1, 5.2 and 3.2). httpuv takes them.",
    applies = function(request) {
      hosts <- sum(grepl("^host:", request$headers, ignore.case = TRUE, useBytes = TRUE))
      hosts != 1 || any(grepl("\r\n[ \t]|^[^:]*[ \t]", request$headers, useBytes = TRUE))
    }
  )
)

is_refused <- function(request) {
  any(vapply(known_refusals, function(known) known$applies(request), NA))
}

was_refused <- function(answer) {
  is.list(answer) && answer$status == 400 && identical(answer$headers[["faucet-error"]], "bad_request")
}

# What a worker prints, line by line, must not depend on how it serves requests, either.

# Serves an API in a way that is faucet's, asks it all `requests`, and returns what its worker has said: the lines of `stdout` and
# of `stderr`.
output_of <- function(write, requests, way) {
  dir <- normalizePath(withr::local_tempdir())
  write(dir)
  variables <- c(FAUCET_COMPILE = if (way == "uncompiled") "false" else "true")
  front <- local_front(dir, workers = 1L, worker_type = "native", env_vars = variables)
  for (request in requests) exchange(front$url, request_bytes(request))
  front$process$signal(15L)
  wait_for_exit(front)
  list(stdout = said_by_worker(front$stdout(), dir), stderr = said_by_worker(front$stderr(), dir))
}

# Without what is another one each time: the directory, the id of a request, and addresses in memory; and how deep a call is in
# rlang's backtraces, as plumber's own calls are not there in a compiled route.
said_by_worker <- function(lines, dir) {
  lines <- sub("^\\[worker 1\\] ", "", grep("^\\[worker 1\\] ", lines, value = TRUE, useBytes = TRUE), useBytes = TRUE)
  for (known in known_lines) lines <- lines[!grepl(known$pattern, lines, useBytes = TRUE)]
  lines <- gsub(dir, "<dir>", lines, fixed = TRUE, useBytes = TRUE)
  lines <- gsub("\\(request [0-9a-f]+\\)", "(request)", lines, useBytes = TRUE)
  lines <- sub("^ *[0-9]+[.] ", "<depth> ", lines, useBytes = TRUE)
  gsub("0x[0-9a-f]{6,}", "<address>", lines, useBytes = TRUE)
}

# What only one way says, by design.
known_lines <- list(
  list(
    pattern = "^The router has been changed since it was started: its routes are not compiled any more[.]$",
    why = "It is told once that requests take longer from now on."
  )
)

differs_in_output <- function(write, requests, compared) {
  said <- lapply(compared, function(way) output_of(write, requests, way))
  !identical(said[[1]], said[[2]])
}
