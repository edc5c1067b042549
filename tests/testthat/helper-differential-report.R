# What is told of a difference: the smallest router and request that show it.

# Compares `count` random requests at the random router of a seed. Returns the difference that was found first, as small as it
# could be made, as text; `NULL` if there is none.
random_difference <- function(seed, count, compared = c("plumber", "native")) {
  router <- random_router(seed)
  requests <- random_requests(router, seed, count)
  found <- with_ways(writer_of(router), compared, function(ask) differing(ask, requests))
  if (length(found) > 0) {
    c(
      sprintf("seed %d: %d of %d requests are answered differently. The first of them:", seed, length(found), count),
      describe_smallest(router, found[[1]], compared)
    )
  }
}

writer_of <- function(router) {
  function(dir) write_router(router, dir)
}

# Of plumber's own examples, those that depend on nothing but what they are asked: neither time nor chance.
steady_examples <- c("01-append", "02-filters", "05-static", "08-identity", "10-welcome", "11-car-inventory", "15-openapi-spec")

# The same at one of plumber's examples, which stays as it is.
example_difference <- function(name, seed, count, compared = c("plumber", "native")) {
  from <- system.file("plumber", name, package = "plumber")
  requests <- random_requests(list(list(endpoints = endpoints_of_example(from))), seed, count)
  write <- function(dir) file.copy(list.files(from, full.names = TRUE), dir, recursive = TRUE)
  found <- with_ways(write, compared, function(ask) differing(ask, requests))
  if (length(found) > 0) {
    c(
      sprintf("example %s: %d of %d requests are answered differently. The first of them:", name, length(found), count),
      describe_difference(NULL, found[[1]])
    )
  }
}

endpoints_of_example <- function(dir) {
  router <- suppressWarnings(plumber::plumb(dir = dir))
  endpoints <- unlist(router$endpoints, use.names = FALSE)
  files <- c("", basename(list.files(dir, recursive = TRUE)))
  static <- unlist(lapply(names(router$mounts), paste0, files))
  c(
    lapply(endpoints, function(endpoint) list(methods = endpoint$verbs, path = endpoint$path)),
    lapply(static, function(path) list(methods = "GET", path = path))
  )
}

describe_smallest <- function(router, difference, compared) {
  # A router that lacks what its other parts need does not start.
  differs <- function(router, request) {
    tryCatch(
      length(with_ways(writer_of(router), compared, function(ask) differing(ask, list(request)))) > 0,
      error = function(error) FALSE
    )
  }
  request <- difference$request
  if (!differs(router, request)) {
    return(c("(only after the requests before it)", describe_difference(router, difference)))
  }
  request <- with_ways(writer_of(router), compared, function(ask) {
    smallest_request(request, function(request) length(differing(ask, list(request))) > 0)
  })
  if (!differs(router, request)) request <- difference$request
  router <- fewest(router, function(router) differs(router, request))
  last <- with_ways(writer_of(router), compared, function(ask) differing(ask, list(request)))
  describe_difference(router, if (length(last) > 0) last[[1]] else difference)
}

# The fewest of `items` for which `holds` is still true, found by leaving out ever smaller pieces of them.
fewest <- function(items, holds) {
  size <- length(items) %/% 2
  while (size >= 1) {
    start <- 1
    while (start <= length(items)) {
      less <- items[-seq(start, min(start + size - 1, length(items)))]
      if (holds(less)) items <- less else start <- start + size
    }
    size <- size %/% 2
  }
  items
}

smallest_request <- function(request, holds) {
  with <- function(...) utils::modifyList(request, list(...))
  if (request$chunks && holds(with(chunks = FALSE))) request$chunks <- FALSE
  request$headers <- fewest(request$headers, function(headers) holds(with(headers = headers)))
  request$body <- fewest(request$body, function(body) holds(with(body = body)))
  parts <- strsplit(request$target, "?", fixed = TRUE, useBytes = TRUE)[[1]]
  if (length(parts) == 2) {
    target <- function(pairs) paste(c(parts[[1]], if (length(pairs) > 0) paste(pairs, collapse = "&")), collapse = "?")
    pairs <- strsplit(parts[[2]], "&", fixed = TRUE, useBytes = TRUE)[[1]]
    request$target <- target(fewest(pairs, function(pairs) holds(with(target = target(pairs)))))
  }
  request
}

describe_difference <- function(router, difference) {
  answers <- difference$answers
  c(
    if (!is.null(router)) c("# plumber.R", router_code(router)), "# the request",
    paste0("bytes <- ", bytes_as_code(request_bytes(difference$request))),
    unlist(Map(function(way, answer) c(paste("# the answer of", way), describe_answer(answer)), names(answers), answers))
  )
}

describe_answer <- function(answer) {
  if (is.character(answer)) {
    return(answer)
  }
  c(as.character(answer$status), paste0(names(answer$headers), ": ", answer$headers), bytes_as_code(answer$body))
}

# Bytes as R code that makes them.
bytes_as_code <- function(bytes) {
  codes <- as.integer(bytes)
  shown <- rawToChar(as.raw(ifelse(codes > 31 & codes < 127, codes, 63L)), multiple = TRUE)
  shown[codes == 34 | codes == 92] <- paste0("\\", shown[codes == 34 | codes == 92])
  odd <- codes < 32 | codes > 126
  shown[odd] <- sprintf("\\x%02x", codes[odd])
  shown[codes == 13] <- "\\r"
  shown[codes == 10] <- "\\n"
  if (any(codes == 0)) {
    return(paste0("as.raw(c(", paste(codes, collapse = ", "), "))"))
  }
  paste0("charToRaw(\"", paste(shown, collapse = ""), "\")")
}

# Compares what workers print of `count` random requests at the random router of a seed, in two ways of faucet's. Returns the
# smallest router and requests that show a difference, as text; `NULL` if there is none.
output_difference <- function(seed, count, compared = c("uncompiled", "native")) {
  router <- random_router(seed)
  requests <- Filter(Negate(is_refused), random_requests(router, seed, count))
  if (!differs_in_output(writer_of(router), requests, compared)) {
    return(NULL)
  }
  differs <- function(router, requests) {
    tryCatch(differs_in_output(writer_of(router), requests, compared), error = function(error) FALSE)
  }
  requests <- fewest(requests, function(requests) differs(router, requests))
  router <- fewest(router, function(router) differs(router, requests))
  said <- lapply(compared, function(way) output_of(writer_of(router), requests, way))
  c(
    sprintf("seed %d: what is printed differs.", seed), "# plumber.R", router_code(router), "# the requests",
    vapply(requests, function(request) paste0("bytes <- ", bytes_as_code(request_bytes(request))), ""),
    unlist(Map(function(way, said) c(paste("# printed by", way), said$stdout, said$stderr), compared, said))
  )
}
