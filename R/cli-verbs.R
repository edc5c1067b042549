# The verbs of the command line: what each takes, and which R function it is.

# `usage` is what it takes beside options, `operands` how much of that (least, most), `flags` makes what find_flag() looks in,
# `run` what is done with what parse_arguments() returns. `aliases` are the first faucet's names.
new_verb <- function(
    name, group, summary, run, usage = "", operands = c(0, 0), flags = function() list(), about = character(),
    examples = character(), aliases = character(), takes_program = FALSE) {
  list(
    name = name, group = group, summary = summary, run = run, usage = usage, operands = operands, flags = flags, about = about,
    examples = examples, aliases = aliases, takes_program = takes_program
  )
}

cli_verbs <- function() {
  verbs <- c(server_verbs(), deploying_verbs(), calling_verbs(), list(init_verb()))
  rlang::set_names(verbs, vapply(verbs, `[[`, "", "name"))
}

server_verbs <- function() {
  list(
    new_verb(
      "run", "Serve", "Serve an API on many R workers on this machine.", cli_run_server,
      usage = "[DIR | FILE.R | FILE.yml | /ROUTE=DIR ...]", operands = c(0, Inf), aliases = "local",
      flags = run_flags,
      about = c(
        paste(
          "DIR holds a plumber.R, an entrypoint.R or a Shiny app, and is the working directory unless it is given; FILE.yml is a",
          "configuration file. Each worker gets one request at a time, and only when it is free; what finds no free worker",
          "waits. Ctrl-C or TERM lets requests in flight finish, a second one ends at once; HUP reloads."
        )
      ),
      examples = c("faucet run api --workers 4", "faucet run /=site /sales=apis/sales --workers 1:8 --port 0")
    ),
    new_verb(
      "k8s", "Serve", "Stand before replicas that run elsewhere, as in Kubernetes.", cli_run_k8s,
      usage = "URL", operands = c(0, 1),
      flags = k8s_flags,
      about = "URL is that of a headless Service, such as http://api.default.svc:8000: its name is looked up again and again.",
      examples = "faucet k8s http://api.default.svc:8000"
    ),
    new_verb(
      "hub", "Serve", "Take workers that dial in from other machines, and stand before them.", cli_run_hub,
      flags = function() server_flags("run_hub", c("port", "worker_port", "host", "worker_host", "token")),
      examples = c("faucet hub", "faucet hub --worker-host 0.0.0.0 --token-file token --tls-cert cert --tls-key key")
    ),
    new_verb(
      "worker", "Serve", "Offer this machine's workers to hubs.", cli_run_worker,
      usage = "HUB [DIR | FILE.R]", operands = c(0, 2),
      flags = worker_flags,
      about = "HUB is host:port, or tls://host:port; DIR is as of `faucet run`.",
      examples = "faucet worker hub.example.com:4040 api --workers 4 --gate-memory 4GB"
    ),
    new_verb(
      "routes", "Serve", "Tell which routes of an API are compiled, and why others are not.", cli_routes,
      usage = "[DIR | FILE.R]", operands = c(0, 1),
      flags = function() list(new_flag("json", setting("flag", FALSE, "Write JSON, and errors, too: for scripts."))),
      about = "DIR is as of `faucet run`. One worker is started, asked, and stopped again.",
      examples = "faucet routes api"
    ),
    new_verb(
      "agent", "Functions", "Run the functions that are deployed to this machine.", cli_run_agent,
      flags = function() server_flags("run_agent", c("host", "port", "token", "call_token", "state_dir", "hub")),
      examples = "faucet agent"
    ),
    new_verb(
      "proxy", "Functions", "Stand before several agents.", cli_run_proxy,
      usage = "[AGENT ...]", operands = c(0, Inf),
      flags = function() server_flags("run_proxy", c("agents", "host", "port", "token", "call_token", "state_dir")),
      about = "AGENT is host:port, or https://host:port. More can join while it runs.",
      examples = "faucet proxy 10.0.0.7:9000 10.0.0.8:9000"
    )
  )
}

run_flags <- function() {
  dir <- common_flag("dir", setting("path", NULL, "The same as DIR."), value = "DIR")
  c(list(dir), server_flags("run", c("workers", "host", "port", "preload", "watch")))
}

k8s_flags <- function() {
  url <- common_flag("service_url", setting("string", NULL, "The same as URL."), value = "URL")
  c(list(url), server_flags("run_k8s", c("host", "port", "slots", "refresh")))
}

worker_flags <- function() {
  cpu <- "Offer slots only while so many cores are idle, on average. See `help(\"gate_cpu\", package = \"faucet\")`."
  memory <- "Offer slots only while so much memory is free."
  c(
    list(
      common_flag("gate_cpu", setting("number", NULL, cpu), value = "CORES"),
      common_flag("gate_memory", setting("size", NULL, memory, min = 1))
    ),
    server_flags("run_worker", c("hub", "workers", "route", "token", "name", "port"))
  )
}

# All settings of a verb; those that are `common` come first in its help.
server_flags <- function(verb, common) {
  definitions <- settings_of(verb)
  definitions <- definitions[c(intersect(common, names(definitions)), setdiff(names(definitions), common))]
  lapply(setting_flags(definitions), function(flag) {
    flag$is_common <- flag$name %in% common
    flag
  })
}

common_flag <- function(...) {
  flag <- new_flag(...)
  flag$is_common <- TRUE
  flag
}

secret_settings <- c("token", "call_token", "agent_token")

# Calls a function that serves until it is stopped. Secrets are no arguments, which are shown when something goes wrong.
call_server <- function(serve, values) {
  use_settings(values[intersect(names(values), secret_settings)])
  do.call(serve, values[setdiff(names(values), secret_settings)])
  invisible()
}

# For this process, as options.
use_settings <- function(values) {
  if (length(values) > 0) options(rlang::set_names(values, paste0("faucet.", names(values))))
}

# One of them, by operand or by its flag.
only_one <- function(operands, flag, name, verb) {
  if (length(operands) > 0 && !is.null(flag)) {
    refuse_usage(paste0("`faucet ", verb, "` is given ", operands[[1]], " and ", name, " ", flag, ": one of them."))
  }
  if (length(operands) > 0) operands[[1]] else flag
}

cli_run_server <- function(given) {
  values <- given$values
  served <- given$operands
  is_route <- grepl("^[^=]*/[^=]*=", served) & !file.exists(served)
  if (length(served) > 0 && all(is_route)) {
    if (!is.null(values$dir)) refuse_usage("`faucet run` is given routes, and --dir beside them.")
    values$dir <- rlang::set_names(sub("^[^=]*=", "", served), sub("=.*$", "", served))
  } else if (length(served) > 1) {
    refuse_usage("Several directories have a route each.", "Such as `faucet run /=site /sales=apis/sales`.")
  } else {
    values$dir <- only_one(served, values$dir, "--dir", "run") %||% "."
  }
  call_server(run, values)
}

cli_run_k8s <- function(given) {
  values <- given$values
  values$url <- only_one(given$operands, values$service_url, "--service-url", "k8s")
  values$service_url <- NULL
  if (is.null(values$url)) {
    refuse_usage("`faucet k8s` needs the URL where the replicas are.", "It looks like http://api.default.svc:8000.")
  }
  call_server(run_k8s, values)
}

cli_run_hub <- function(given) {
  call_server(run_hub, given$values)
}

cli_run_worker <- function(given) {
  values <- given$values
  operands <- given$operands
  # Where the hub is known already, one is what is served.
  is_known <- !is.null(values$hub) || (is_set("hub") && length(operands) == 1 && !is.null(content_of(operands)))
  if (length(operands) > 0 && !is_known) {
    values$hub <- operands[[1]]
    operands <- operands[-1]
  }
  if (length(operands) > 1) refuse_usage("`faucet worker` is given a hub by --hub, and two more operands: DIR is one.")
  if (length(operands) > 0) values$dir <- operands[[1]]
  values$gate <- gate_of(values$gate_cpu, values$gate_memory)
  call_server(run_worker, values[setdiff(names(values), c("gate_cpu", "gate_memory"))])
}

gate_of <- function(cpu, memory) {
  gates <- c(if (!is.null(cpu)) list(gate_cpu(cpu)), if (!is.null(memory)) list(gate_memory(memory)))
  if (length(gates) > 0) Reduce(`&`, gates)
}

cli_routes <- function(given) {
  dir <- if (length(given$operands) > 0) given$operands[[1]] else "."
  routes <- compiled_routes(dir)
  if (isTRUE(given$values$json)) write_json(routes) else write_out(format(routes))
}

cli_run_agent <- function(given) {
  call_server(run_agent, given$values)
}

cli_run_proxy <- function(given) {
  values <- given$values
  values$agents <- c(values$agents, given$operands)
  if (length(values$agents) == 0) values$agents <- NULL
  call_server(run_proxy, values)
}
