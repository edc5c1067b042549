# Random requests for a router, as a client would write them.

# A request is a list of `method`, `target`, `headers` (lines), `body` (raw), and whether that is sent in `chunks`.
random_requests <- function(router, seed, count) {
  endpoints <- endpoints_of(router)
  with_choices(seed, lapply(seq_len(count), function(i) random_request(endpoints)))
}

random_request <- function(endpoints) {
  endpoint <- if (length(endpoints) > 0 && chance(0.93)) pick(endpoints)
  path <- if (is.null(endpoint)) random_target_path() else near(filled(endpoint$path))
  method <- if (!is.null(endpoint) && chance(0.85)) pick(endpoint$methods) else pick(request_methods)
  body <- random_body(method)
  list(
    method = method, target = paste0(path, random_query()),
    # One in a hundred has no Host.
    headers = c(if (!chance(0.01)) "Host: example.org", random_headers(), body$headers),
    body = body$bytes, chunks = length(body$bytes) > 0 && chance(0.2)
  )
}

request_methods <- c("GET", "GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "PROPFIND")

# The bytes of a request. One connection is for one request.
request_bytes <- function(request) {
  body <- request$body
  framing <- if (request$chunks) {
    "Transfer-Encoding: chunked"
  } else if (length(body) > 0) {
    paste0("Content-Length: ", length(body))
  }
  lines <- c(paste(request$method, request$target, "HTTP/1.1"), request$headers, framing, "Connection: close", "", "")
  # Each by itself, as paste() would translate what is in different encodings.
  head <- utils::head(unlist(lapply(lines, function(line) c(charToRaw(line), charToRaw("\r\n")))), -2)
  c(head, if (request$chunks) chunked(body) else body)
}

chunked <- function(bytes) {
  half <- length(bytes) %/% 2
  pieces <- list(utils::head(bytes, half), utils::tail(bytes, length(bytes) - half))
  chunks <- lapply(Filter(length, pieces), function(piece) {
    c(charToRaw(sprintf("%x\r\n", length(piece))), piece, charToRaw("\r\n"))
  })
  c(unlist(chunks), charToRaw("0\r\n\r\n"))
}

# No longer numbers: plumber's pattern for several of them takes exponential time.
path_values <- c(
  "1", "-5", "+3", "1.5", ".5", "007", "abc", "1e5", "TRUE", "true", "T", "0", "f", "%20", "a%2Fb", "%C3%A9", "%E9", "%00", "%zz",
  "%", "a+b", "..", ".", "a;b=c", "1,2,3", "a,b", "99999999999", "-", "null", "NA", "NULL", "&", "a=b", "%25", "%2e%2e", "~",
  "a'b",
  "(x)", "*", "$1", "\\", "|", "[1]", "\"q\"", "{x}", "^", "`",
  "2147483647", "2147483648", "-2147483647", "-2147483648", "-0", "00", "5", "5.json", "1.", "-.5", "1e400",
  "0.100000001",
  "12345678901", "1,,2", ",1", "1,", "1,2.5,x", "1,2,3.5", "tRUE", "True", "False", "FALSE", "false", "F",
  "t", "%31", "%2F", "%2f",
  "1%20", "0x10", "1L", "Inf", "NaN", "%E2%82%AC", "t,f", "TRUE,FALSE", "a-b", "req", "--1", "1-", "٣", "1%0A", "%0A", "a%0Ab",
  "%7C", "true%0A"
)

filled <- function(path) {
  while (grepl("<[^/]*>", path)) {
    value <- if (chance(0.05)) strrep("long", 80) else pick(path_values)
    path <- sub("<[^/]*>", gsub("\\", "\\\\", value, fixed = TRUE), path)
  }
  path
}

# Sometimes a path that is not quite that of the endpoint.
near <- function(path) {
  if (chance(0.85)) {
    return(path)
  }
  changed <- either(
    paste0(path, "/"), sub("/$", "", path), paste0(path, "x"), paste0("/", path), toupper(path), sub("^/", "/sub/", path),
    paste0(path, "/more"), gsub("a", "%61", path), substr(path, 1, nchar(path) - 1), paste0("/old", path), gsub("/", "//", path),
    sub("[.]", "x", path), paste0(path, "%0A"), paste0(path, "%2F"), sub("(.*)/", "\\1%2F", path), paste0(path, "."),
    paste0(path, ";v=1"),
    sub("^(/[^/]*)", "\\1\\1", path), paste0("/one", path), paste0(path, "?")
  )
  if (grepl("^(/|http:)", changed)) changed else paste0("/", changed)
}

random_target_path <- function() {
  pick(c(
    "/", "/nosuch", "/openapi.json", "/__docs__/", "/%", "/%C3%A9", "//", "/.", "/a//b", "/added", "/sub", "/sub/",
    "/sub/deep/", "/*", "/item", "/item/", "/item/5", "/item/a", "/other", "/change", "/change", "/one", "/two/", "/a", "/b",
    "/x", "/subx", "/su/", "/item/5/more"
  ))
}

query_values <- c(
  "a=1", "a=1&a=2", "a=1&b=2&a=3", "a", "a=", "=1", "&&", "a[]=1&a[]=2", "a=%", "a=%zz", "a=%00", "a=%C3%A9", "%C3%A9=1",
  "a=%E9", "a=b=c",
  "a+b=c+d", "a%20b=1", "a%2Bb=1%2B1", "n=5", "x=2.5&y=3", "n=5&x=y", "s=text", "b=FALSE", "b=maybe", "id=7", "a.b=8", "type=own",
  "req=1", "res=1", "...=1", ".internal=1", "%20=1", "?a=1", "a=1?b=2", "a;b=1", "a=1;b=2", "stop=1", "skip=1", "file=x",
  "session=1",
  "a=%F0%9F%98%80", "a=%ED%A0%80", "a=%26%3D%23", "a='x'", "a=\"x\"", "a={\"b\":1}", "a=[1]", "a=<b>", "a=|", "a=\\", "a=^`",
  "n=&n=1",
  "n=%", "from_filter=me", "N=1", "callback=f", "args=1", "list=2", "pr=1", "body=1", "=", "&a=1&", "a=%0D%0A", "a=%u00e9",
  "a=\u00e9", "\xe9=1", "a=1#b=2", "num=4", "numb=1&num=2", "number=7", "re=1", "request=1", "resp=1", "value=1", "data=2",
  "value=1&value=2", ".next=1", "func=1",
  "envir=1", "what=f", "quote=TRUE", "from=3", "a=1&A=2", "n=1&x=2&s=3&b=4&id=5", "%26=1", "a%26b=1", "a%3Db=c%3D", "a==b",
  "a==", "==", "a=b=", "&&&a=1", "+=+", "a=+", "%2B=+",
  "a=%0", "a=%1", "a=%GG%41", "%41=1", "%61=1&a=2", "a=%7E~", "a=%80", "%zz=1", "a=1&a", "a&a=1", "a=%2500", "n=NA", "n=NULL",
  "n=1e5", "n=-1", "n=TRUE", "x=1&y", "y=&x=2", "b=t",
  "a=1&a=2&b=%C3%A9", "n=5&n=6&n=7", "%C3%A9=1&%C3%A9=2", "x%5B%5D=1", "n%00=1", "%00=1", "?", "??a=1", "a=1&?b=2", "...a=1",
  "..1=1", "T=5", "NA=1", "a.b=1&a.b=2", "s=%22q%22",
  "s=a%0Ab", "a=%C3", "a=%C3%28", "a=%EF%BB%BF", "a%00b=1", "a=1%26b=2", "N=5&n=5", "req=1&res=2&n=3", "handler=1", "expr=1",
  "error=1", "f=1", "i=1", "=1=2", "x==1", "a=%3d%26"
)

random_query <- function() {
  if (chance(0.45)) {
    return(if (chance(0.1)) "?" else "")
  }
  if (chance(0.03)) {
    return(paste0("?", paste0("p", 1:200, "=", 1:200, collapse = "&")))
  }
  if (chance(0.03)) {
    return(paste0("?a=", strrep("0123456789", 300)))
  }
  if (chance(0.02)) {
    # From 151 different keys on, those that are there twice are put in another order.
    count <- pick(148:152)
    return(paste0("?", paste0(pick(c("k", "K", "_", "a.")), seq_len(count), "=", seq_len(count), collapse = "&"),
    pick(c("", "&k1=b&K2=c", "&n=5&n=6", "&a=%zz"))))
  }
  paste0("?", paste(pick_some(query_values, pick(c(1, 1, 2, 3))), collapse = "&"))
}

cookie_values <- c(
  "a=1", "a=1; b=2", "a=1;b=2", "a", "=1", "a=", "a=\"quoted; x\"", "a=%C3%A9", "a=%E9", "a=%", "a=b=c", ";;",
  " a = 1 ; b = 2 ", "a=1; a=2",
  "a b=c", "user=me", "session=abc", "session=eyJhIjpbMV19", "session=W10=", "a=1,b=2", "a=%00", "a=+", "$Version=1; a=2",
  "a=\\x", "a=<>", "a=1;; b=2", "a==", "a=1; ", ";a=1", "a;b", "a=%00b", "a=1; A=2", "a=%2B+", "S=1; SS=2; *=3", "a=\u00e9",
  "\u00e9=1", "a=; b", "a*=1", "*", "a=1; a", "   ", "a=1;\tb=2",
  "n=5; x=2", "a=%zz", "a=\xe9", "a=%41%", "%61=1", "a.b=1; session=%7B%7D", "user=%20",
  paste0("a", 1:40, "=", 1:40, collapse = "; "), "a=1;  b=2;   c=3", "a=b; a=c; =d; ="
)

header_lines <- c(
  "Accept: */*", "ACCEPT: text/html", "accept: application/json;q=0.5", "User-Agent: test/1.0 (x; y)",
  "Authorization: Basic eDp5", "X-Test: plain",
  "X-Test: one\r\nX-Test: two", "X-Test:", "X-Test:\r\nX-Test: two", "X-Test: one\r\nX-Test:", "X-Test: \t padded \t",
  "X-Test: a,b ,c", "x-TEST: cased",
  "X-Test: caf\u00e9", "X-Test: \xe9t\xe9", "X-Test: a\tb", "X-Test: \"quoted\"", "X-Fail: yes", "X-Fail: hook",
  "Accept-Encoding: gzip",
  "Accept-Encoding: identity", "Accept-Encoding: deflate, gzip;q=1.0", "If-None-Match: \"abc\"",
  "If-Modified-Since: Sat, 29 Feb 2020 12:00:00 GMT",
  "Range: bytes=0-3", "Origin: http://elsewhere.org", "Referer: http://example.org/?a=b", "Accept-Language: de,en;q=0.5",
  "Cache-Control: no-cache",
  "X-Http-Method-Override: DELETE", "X-Long: 0123456789", "Cookie2: x", "Content-Language: de", "Expect: 100-continue",
  "TE: trailers",
  "Keep-Alive: 5", "Forwarded: for=192.0.2.1", "X-Forwarded-For: 192.0.2.1", "X-Request-Id: own", "X_Under_Score: 1",
  "X-Test: a\r\n folded",
  "X-Test : spaced", "Proxy-Authorization: Basic eDp5", "Host: twice", "X-1: 1\r\nX-2: 2\r\nX-A: a\r\nX-a-b: ab",
  "Plumber-Shared-Secret: s", "Plumber-Shared-Secret: s", "plumber-shared-secret: wrong", "Content-Type: text/plain",
  "Content-Type: application/json", "X-Stop: 1"
)

random_headers <- function() {
  lines <- if (chance(0.4)) pick_some(header_lines, pick(1:3))
  if (chance(0.25)) lines <- c(lines, paste0("Cookie: ", pick(cookie_values)))
  if (chance(0.03)) lines <- c(lines, paste0("Cookie: ", pick(cookie_values), "\r\nCookie: ", pick(cookie_values)))
  if (chance(0.03)) lines <- c(lines, paste0("X-Test: ", strrep("long", 500)))
  lines
}

json_bodies <- c(
  "{\"a\": 1, \"b\": \"x\"}", "{\"n\": 5, \"x\": [1, 2.5]}", "[1, 2, 3]", "[{\"a\": 1}, {\"a\": 2, \"b\": null}]", "\"text\"",
  "5", "null", "true", "{}", "[]",
  "{\"a\": {\"b\": {\"c\": [[1, 2], [3, 4]]}}}", "{\"big\": 12345678901234567890, \"e\": 1e400, \"t\": 1e-7}", "{\"a\": 1",
  "{a: 1}", "", " ", "{\"a\": 1} x",
  "{\"\u00e9\": \"\\u00e9\\ud83d\\ude00\"}", "{\"a\": \"\\ud800\"}", "{\"a\": \"\\u0000\"}",
  "{\"a\": 1, \"a\": 2}", "{\"\": 1}", "{\"s\": \"\\n\"}",
  "[\"a\", 1, null]", "{\"a.b\": 1, \"id\": 3}",
  "\ufeff{\"a\": 1}", "{\"a\": \"caf\xe9\"}", "{\"n\": NaN}", "[1,]", "{\"file\": \"x\", \"type\": [true, false]}", "nonsense",
  "{\"req\": 1, \"res\": 2}", "[[1, 2], [3, 4]]", "[{\"a\": 1, \"b\": [1, 2]}, {\"a\": null}]", "0", "false", "\"\"", "[null]",
  "{\"x\": null}", "{\"n\": 1, \"n\": 2}", "{\"req\": {\"a\": 1}}",
  "{\"...\": 1}", "{\"num\": 3}", "[\"x\", \"y\"]", "[5]", "{\"a\": [{\"b\": 1}, {\"b\": 2}]}", "1e5", "-1.5", "123456789012",
  "{\"1\": 2}", "\t{\"a\": 1}", "\n[1]", "{}\n", "{\"n\": [1, 2], \"s\": {\"t\": []}}",
  "{\"value\": 1, \"data\": 2}", "{\"number\": 1, \"number2\": 2}", "{\"n\": 5, \"x\": true, \"s\": \"\", \"b\": false}",
  "{\"n\": 2147483648}", "{\"n\": 1.0}", "{\"n\": -0}", "[1, 2.5, \"a\"]", "[true, null]",
  "[[1], [2, 3]]", "{\"a\":{}}", "// no\n1", "'a'", "{\"a\": 01}", "{\"a\": \"\t\"}", "http://127.0.0.1:1/", "/etc/hostname",
  "plumber.R"
)

form_bodies <- c(
  "a=1&b=2", "n=5&n=6", "a=%C3%A9", "a", "a+b=c", "=", "a=%zz", "x=1&y=2&id=3", "s=text&a.b=1", "{\"a\": 1}", "a=1&",
  "a=\u00e9", "a=%00", "a=1&a=2", "num=4", "req=1&res=2", "value=1", "n=5", "a==", "?a=1", "a=1&b", "a=%E9", "=1", "a=b+c%2Bd",
  "x=&y=1", "a=1\n"
)

text_bodies <- c(
  "plain", "two\nlines\n", "caf\u00e9", "\xe9 latin", "", "a\r\nb", "\nb", "a\rb\r", "x\n\ny", "\r\n\r", "no end\n\n", "tab\t",
  "a,b\n1,2\n", "a: 1\nb: [1, 2]\n",
  "\ufeffbom"
)

request_types <- c(
  "application/json", "application/json; charset=utf-8", "Application/JSON", "text/json", "application/x-www-form-urlencoded",
  "text/plain",
  "text/plain; charset=latin1", "text/plain;charset=UTF-8", "application/octet-stream", "text/csv", "text/yaml",
  "application/rds", "image/png", "text/html",
  "application/vnd.api+json", "nonsense", "multipart/form-data", "application/json, text/plain", "*", "",
  "application/json;charset=ISO-8859-1", "application/JSON; Charset=UTF-8", "application/json;", "application/json ; q=1",
  "multipart/form-data; boundary=", "application/xml", "text/html; charset=utf-8",
  "application/x-own", "application/x-www-form-urlencoded; charset=UTF-8", "text/plain; charset=\"utf-8\"",
  "application/json\r\nContent-Type: text/plain", "application/problem+json", "text/x-yaml",
  "text/tab-separated-values", "text", "application/json/x", "charset=utf-8", "application/jsonx", "xapplication/json",
  "application/x-own; charset=latin1"
)

# A body, perhaps of no bytes, with the headers that tell of it.
random_body <- function(method) {
  often <- method %in% c("POST", "PUT", "PATCH")
  if (!chance(if (often) 0.85 else 0.05)) {
    return(list(bytes = raw(), headers = NULL))
  }
  body <- random_content()
  # A byte that no text of R's can have.
  if (length(body$bytes) > 0 && chance(0.02)) body$bytes <- append(body$bytes, as.raw(0), sample(0:length(body$bytes), 1))
  if (length(body$bytes) == 0) body$headers <- c(body$headers, "Content-Length: 0")
  body
}

random_content <- function() {
  kind <- pick(c("json", "json", "json", "form", "text", "multi", "bytes", "mixed"))
  if (kind == "multi") {
    return(random_multipart())
  }
  bytes <- switch(kind,
    json = as_bytes(pick(json_bodies)), form = as_bytes(pick(form_bodies)), text = as_bytes(pick(text_bodies)),
    bytes = as.raw(sample(0:255, pick(c(1, 10, 100, 2000, 100000)), replace = TRUE)),
    mixed = as_bytes(pick(c(json_bodies, form_bodies, text_bodies)))
  )
  type <- switch(kind,
    json = "application/json", form = "application/x-www-form-urlencoded", text = pick(c("text/plain", "text/csv", "text/yaml")),
    bytes = pick(c("application/octet-stream", "application/rds", "image/png")), mixed = pick(request_types)
  )
  list(bytes = bytes, headers = if (chance(0.93)) paste0("Content-Type: ", type))
}

as_bytes <- function(text) {
  if (nzchar(text)) charToRaw(text) else raw()
}

multipart_parts <- list(
  c("name=\"a\"", "", "1"), c("name=\"a\"", "", "2"),
  c("name=\"f\"; filename=\"x.txt\"", "Content-Type: text/plain", "of a file\n"),
  c("name=\"j\"; filename=\"j.json\"", "Content-Type: application/json", "{\"k\": [1, 2]}"),
  c("name=\"j\"", "Content-Type: application/json", "{broken"),
  c("name=\"o\"; filename=\"o.bin\"", "Content-Type: application/octet-stream", "\001\002"), c("name=\"\u00e9\"", "", "\u00e9"),
  c("name=a", "", "unquoted"),
  c("name=\"f\"; filename=\"y.csv\"", "", "a,b"), c("name=\"n\"", "", "5"), c("filename=\"z\"", "", "no name"),
  c("name=\"empty\"", "", "")
)

random_multipart <- function() {
  boundary <- pick(c("xyz", "----WebKitFormBoundary7MA4", "a b"))
  parts <- pick_some(multipart_parts, pick(1:3))
  text <- vapply(parts, function(part) {
    type <- if (nzchar(part[2])) paste0(part[2], "\r\n")
    paste0("--", boundary, "\r\nContent-Disposition: form-data; ", part[1], "\r\n", type, "\r\n", part[3], "\r\n")
  }, "")
  end <- if (chance(0.9)) paste0("--", boundary, "--\r\n") else ""
  types <- c("multipart/form-data; boundary=%s", "multipart/form-data; boundary=\"%s\"", "multipart/mixed; boundary=%s")
  type <- if (chance(0.9)) sprintf(pick(types), boundary) else "multipart/form-data"
  list(bytes = charToRaw(paste0(paste(text, collapse = ""), end)), headers = paste0("Content-Type: ", type))
}
