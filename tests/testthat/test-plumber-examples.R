skip_on_cran()

# Every API that plumber ships answers through faucet as it does alone: same status, body and headers. Both sides have
# to answer the same requests in the same order, one worker each, as some of these APIs keep state in R.

# Headers that belong to a connection, a moment, or faucet.
own_headers <- c("date", "connection", "keep-alive", "x-request-id", "faucet-error")

# `mask` replaces what differs between any two calls: times, addresses, random bytes.
comparable <- function(response, mask = NULL) {
  headers <- response$headers[!names(response$headers) %in% own_headers]
  text <- response$text %||% rawToChar(response$body[response$body != 0])
  if (!is.null(mask)) {
    text <- mask(text)
    headers <- lapply(headers, mask)
    headers[["content-length"]] <- NULL
  }
  headers <- headers[order(names(headers), as.character(headers))]
  list(status = response$status, headers = headers, text = text, bytes = if (is.null(mask)) response$body)
}

by_get <- function(path, ...) list(path = path, ...)
by_post <- function(path, body = "", ..., type = "application/x-www-form-urlencoded") {
  list(path = path, method = "POST", body = body, type = type, ...)
}

mask_time <- function(text) {
  text <- gsub("[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:.]+", "<time>", text)
  gsub("[A-Z][a-z]{2} [A-Z][a-z]{2} [ 0-9]{2} [0-9:]{8} [0-9]{4}", "<time>", text)
}
mask_date <- function(text) gsub("D:[0-9]{14}", "<date>", text, useBytes = TRUE)
mask_pointers <- function(text) gsub("0x[0-9a-f]+", "<pointer>", text)
mask_session <- function(text) sub("^(cookieName=)[^;]*", "\\1<session>", text)
mask_number <- function(text) gsub("-?[0-9]+\\.[0-9]+(e-?[0-9]+)?", "<number>", text)

car <- "make=Saab&model=900&edition=Turbo&year=1985&miles=120000&price=3500"

examples <- list(
  "01-append" = list(
    by_get("/tail"), by_post("/append", "val=3"), by_post("/append", "val=many"), by_get("/tail?n=2"),
    by_get("/tail?n=0"), by_get("/graph")
  ),
  "02-filters" = list(
    by_get("/about"), by_get("/me"), by_get("/me?username=joe"), by_get("/me?username=nobody"),
    by_get("/about?username=kim")
  ),
  # /update needs the internet.
  "03-github" = list(by_get("/version")),
  "04-mean-sum" = list(
    by_get("/mean?samples=20", mask = mask_number), by_get("/mean?samples=x"), by_post("/sum", "a=1&b=2"),
    by_post("/sum", "{\"a\": 3, \"b\": 4}", type = "application/json"), by_post("/sum", "a=1"), by_get("/sum")
  ),
  "05-static" = list(
    by_get("/"), by_get("/public/a.html"), by_get("/static/a.html"), by_get("/static/b.txt"), by_get("/public/b.txt"),
    by_get("/static/nosuch")
  ),
  "06-sessions" = list(
    by_get("/counter"), by_get("/counter", headers = list(Cookie = "visitcounter=4")),
    by_get("/sessionCounter", mask = mask_session), by_get("/public/iframe.html"), by_get("/iframe.html")
  ),
  "07-mailgun" = list(
    by_get("/tail"), by_post("/mail", "from=a%40example.org&subject=%3Cb%3EHello"), by_get("/tail", mask = mask_time)
  ),
  "08-identity" = list(by_get("/name")),
  "09-content-type" = list(
    by_get("/pdf", mask = mask_date), by_get("/text"), by_get("/html"), by_get("/download-binary")
  ),
  "10-welcome" = list(by_get("/")),
  "11-car-inventory" = list(
    by_get("/car/"), by_get("/car/12049293"), by_get("/car/999"), by_get("/car/abc"), by_post("/car/", car),
    by_post("/car/", "make=Saab"),
    list(path = "/car/12049294", method = "PUT", body = car, type = "application/x-www-form-urlencoded"),
    list(path = "/car/999", method = "PUT", body = car, type = "application/x-www-form-urlencoded"),
    list(path = "/car/12049295", method = "DELETE"), list(path = "/car/999", method = "DELETE"), by_get("/car/")
  ),
  "12-entrypoint" = list(by_get("/counter", mask = mask_session)),
  # /sync-slow is /sync with a sleep of 5 s.
  "13-promises" = list(
    by_get("/sync", mask = mask_time), by_get("/sync-bad"), by_get("/async", mask = mask_time), by_get("/async-bad")
  ),
  "14-future" = list(
    by_get("/divide?a=6&b=3"), by_get("/divide?a=6"), by_get("/divide-catch?a=6"), by_get("/divide-catch?b=3")
  ),
  "15-openapi-spec" = list(by_get("/sum?num=1&num=2&num=3"), by_get("/sum")),
  "16-attachment" = list(
    by_get("/name", mask = mask_time), by_get("/no_name", mask = mask_time), by_get("/inline", mask = mask_time)
  ),
  "17-arguments" = list(
    by_post("/bad-practice/1/2"), by_post("/bad-practice/1/2?a=3"), by_post("/bad-practice/1/2", "a=3"),
    by_post("/good-practice/3/4?a=1&b=2&d=10", "a=5&b=6", mask = mask_pointers)
  )
)

# Of every API: what plumber adds to all of them.
of_all <- list(
  by_get("/openapi.json"), by_get("/__docs__/"), by_get("/__docs__/swagger-ui.css"), by_get("/__swagger__/"),
  by_get("/no/such/path"), list(path = "/no/such/path", method = "DELETE")
)

needs <- list("07-mailgun" = "htmltools", "14-future" = c("coro", "future"))

fetch_all <- function(url, requests) {
  lapply(requests, function(this) {
    # httpuv compresses all there is, faucet what is worth it.
    this$headers <- c(this$headers, list(`Accept-Encoding` = "identity"))
    answer <- do.call(request, c(list(url), this[setdiff(names(this), "mask")]))
    # faucet says to caches that it may compress.
    answer$headers$vary <- NULL
    comparable(answer, this$mask)
  })
}

test_that("the list of examples is complete", {
  expect_setequal(names(examples), list.files(system.file("plumber", package = "plumber")))
})

for (name in names(examples)) {
  test_that(paste("the example", name, "answers through faucet as it does alone"), {
    for (package in needs[[name]]) skip_if_not_installed(package)
    dir <- system.file("plumber", name, package = "plumber")
    requests <- c(examples[[name]], of_all)
    direct <- fetch_all(local_plumber(dir), requests)
    for (kind in kinds) {
      server <- local_server(dir, workers = 1, worker_type = kind)
      expect_identical(type_of(server), kind)
      through <- fetch_all(server$url, requests)
      for (i in seq_along(requests)) {
        what <- paste(kind, requests[[i]]$method %||% "GET", requests[[i]]$path, requests[[i]]$body)
        expect_identical(through[[i]], direct[[i]], info = what)
      }
    }
  })
}
