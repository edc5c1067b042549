# The settings of what asks agents and proxies: deploy() and the other functions that take `to`.

client_definitions <- function() {
  list(
    to = setting(
      "string", "http://127.0.0.1:9000",
      paste(
        "The agent or proxy that [deploy()], [functions()], [invoke()] and the like ask: `\"host:port\"` (port 9000 if there is",
        "none), a URL with `http://` or `https://`, or `\"unix:/path\"`."
      ),
      verbs = "deploy",
      elsewhere = "It is for {.fun deploy} and all else that asks an agent or a proxy."
    )
  )
}

# Where a request goes, and what it shows there. `to` and `token` are arguments; `ca` and `insecure` come from options and the
# environment alone.
resolve_server <- function(to, token, call = NULL) {
  given <- given_settings(list(to = to, token = token), list())
  settings <- lapply(rlang::set_names(c("to", "token", "ca", "insecure")), function(name) {
    list(resolve_setting(name, given, call = call))
  })
  settings <- lapply(settings, `[[`, 1)
  address <- client_address(enc2utf8(settings$to))
  if (!is.null(address$problem)) {
    abort("option", c(
      "{.arg to} must be the address of an agent or a proxy, not {.val {settings$to}}.",
      x = "{address$problem}",
      i = "It looks like {.val 127.0.0.1:9000} or {.val https://proxy.example.com}."
    ), option = "to", value = settings$to, call = call)
  }
  if (address$exposed && !is.null(settings$token) && !settings$insecure) {
    abort("option", c(
      "Without TLS, others can read the token on its way to {.val {address$url}}.",
      i = "A server with TLS is reached by {.val https://...}.",
      i = "{.code options(faucet.insecure = TRUE)} is for networks where everyone may."
    ), option = "to", call = call)
  }
  list(url = address$url, token = settings$token, ca = settings$ca)
}

# The same for calls of functions, which have a token of their own.
resolve_caller <- function(to, token, call = NULL) {
  resolve_server(to, token %||% resolve_setting("call_token", call = call), call = call)
}
