resolve <- function(..., verb = "run") resolve_settings(list(...), verb)

test_that("each setting has the documented default", {
  withr::local_envvar(FAUCET_WORKER_TYPE = NA, FAUCET_COMPILE = NA, PORT = NA)
  settings <- resolve()
  expect_named(settings, names(settings_of("run")))
  expect_identical(settings$workers, usable_cores())
  expect_identical(settings$worker_type, "auto")
  expect_true(settings$compile)
  expect_false(settings$preload)
  expect_true(settings$cancel)
  expect_identical(settings$interrupt_timeout, 5)
  expect_identical(settings$host, "127.0.0.1")
  expect_identical(settings$port, 8080L)
  expect_identical(settings$queue, 1024L)
  expect_identical(settings$queue_timeout, 30)
  expect_identical(settings$timeout, Inf)
  expect_identical(settings$boot_timeout, 60)
  expect_identical(settings$shutdown_timeout, 30)
  expect_identical(settings$header_timeout, 10)
  expect_identical(settings$idle_timeout, 75)
  expect_identical(settings$max_body, 256 * 1024^2)
  expect_identical(settings$max_connections, 10000L)
  expect_identical(settings$max_requests, Inf)
  expect_identical(settings$max_memory, Inf)
  expect_identical(settings$trusted_proxies, character())
  expect_null(settings$admin_port)
  expect_identical(settings$admin_host, "127.0.0.1")
  expect_identical(settings$admin_hosts, character())
  expect_identical(settings$access_log, "text")
  expect_null(settings$log_file)
  expect_identical(settings$log_max_size, Inf)
  expect_identical(settings$log_keep, 5L)
  expect_false(settings$log_health)
  expect_null(settings$otlp)
  expect_false(settings$quiet)
})

test_that("defaults are values that their settings take", {
  for (verb in all_verbs) {
    definitions <- settings_of(verb)
    for (name in names(definitions)) {
      default <- resolve_setting(name, definition = definitions[[name]])
      expect_identical(check_setting(default, name, definitions[[name]]), default, info = name)
    }
  }
})

test_that("each verb takes its own settings, and has its own defaults", {
  withr::local_envvar(PORT = NA)
  own <- c("refresh", "ready_path", "dns")
  local <- c(
    "workers", "worker_type", "compile", "preload", "interrupt_timeout", "max_requests", "max_memory", "max_failures",
    "give_up_after", "grow_after", "shrink_after", "max_workers", "watch",
    "sticky", "session_timeout", "drain_timeout"
  )
  others <- names(c(hub_definitions(), function_definitions(), client_definitions()))
  common <- setdiff(names(setting_definitions()), c(own, local, others))
  expect_setequal(names(resolve()), c(common, local))
  settings <- resolve(verb = "run_k8s")
  expect_setequal(names(settings), c(common, own))
  expect_identical(settings$host, "0.0.0.0")
  expect_identical(settings$port, 8080L)
  expect_identical(c(settings$slots, resolve()$slots), c(1L, 50L))
  expect_null(settings$refresh)
  expect_null(settings$ready_path)
  expect_null(settings$dns)
  expect_identical(settings$boot_timeout, 60)
  expect_true(settings$cancel)

  hub <- resolve(verb = "run_hub")
  of_hub <- c("worker_port", "worker_host", "pothead_port", "forget_after", "token", "insecure")
  expect_setequal(names(hub), c(setdiff(common, c("slots", "boot_timeout")), of_hub))
  expect_identical(hub[c("host", "port", "worker_host", "worker_port")], list(
    host = "127.0.0.1", port = 8080L, worker_host = "127.0.0.1", worker_port = 4040L
  ))
  worker <- resolve(verb = "run_worker")
  sessions <- c("sticky", "slots", "session_timeout", "drain_timeout")
  of_worker <- c("token", "insecure", setdiff(names(hub_definitions()), of_hub))
  expect_setequal(names(worker), c(setdiff(c(common, local), sessions), of_worker))
  expect_identical(worker$workers, 1L)
  expect_identical(worker$route, "/")
  expect_identical(worker$name, Sys.info()[["nodename"]])
  expect_null(worker$port)
})

test_that("an agent's workers compile routes, or do not, as its setting says", {
  withr::local_envvar(FAUCET_COMPILE = NA)
  worker <- function(...) function_worker(resolve(..., verb = "run_agent"))
  expect_true(worker()$compile)
  expect_false(worker(compile = FALSE)$compile)
  withr::local_envvar(FAUCET_COMPILE = "false")
  expect_false(worker()$compile)
})

test_that("an argument wins over an option, an option over the environment, that over the default", {
  expect_identical(resolve()$queue, 1024L)
  withr::local_envvar(FAUCET_QUEUE = "3")
  expect_identical(resolve()$queue, 3L)
  withr::local_options(faucet.queue = 2)
  expect_identical(resolve()$queue, 2L)
  expect_identical(resolve(queue = 1)$queue, 1L)
})

test_that("an argument that is NULL turns off what the environment turned on", {
  withr::local_envvar(FAUCET_ADMIN_PORT = "9090")
  expect_identical(resolve()$admin_port, 9090L)
  expect_null(resolve(admin_port = NULL)$admin_port)
})

test_that("the environment's text becomes each setting's type", {
  withr::local_envvar(
    FAUCET_WORKERS = "3", FAUCET_TIMEOUT = "1.5", FAUCET_IDLE_TIMEOUT = "Inf", FAUCET_MAX_BODY = "16MB",
    FAUCET_MAX_MEMORY = "1000000", FAUCET_TRUSTED_PROXIES = "10.0.0.0/8, 127.0.0.1", FAUCET_QUIET = "true",
    FAUCET_ACCESS_LOG = "json", FAUCET_HOST = "0.0.0.0"
  )
  settings <- resolve()
  expect_identical(settings$workers, 3L)
  expect_identical(settings$timeout, 1.5)
  expect_identical(settings$idle_timeout, Inf)
  expect_identical(settings$max_body, 16 * 1024^2)
  expect_identical(settings$max_memory, 1e6)
  expect_identical(settings$trusted_proxies, c("10.0.0.0/8", "127.0.0.1"))
  expect_true(settings$quiet)
  expect_identical(settings$access_log, "json")
  expect_identical(settings$host, "0.0.0.0")
})

test_that("bytes that are no text are a value that no setting takes", {
  bytes <- "\xff\xfe"
  for (name in names(setting_definitions())) {
    variables <- rlang::set_names(bytes, setting_variables(name)[[1]])
    withr::with_envvar(variables, {
      error <- expect_error(resolve_setting(name), class = "faucet_error_option", info = name)
      expect_identical(error$source, "variable")
      expect_match(conditionMessage(error), "must be .*, not", info = name)
    })
    expect_error(
      check_setting(bytes, name, setting_definitions()[[name]]), class = "faucet_error_option", info = name
    )
  }
})

test_that("an empty environment variable counts as not set", {
  withr::local_envvar(FAUCET_QUEUE = "")
  expect_identical(resolve()$queue, 1024L)
})

test_that("what Kubernetes sets for a service called faucet is not a setting", {
  withr::local_envvar(FAUCET_PORT = "tcp://10.0.0.7:80", PORT = NA)
  expect_identical(resolve()$port, 8080L)
})

test_that("PORT is the port where nothing of faucet's own is set", {
  withr::local_envvar(PORT = "5000", FAUCET_PORT = NA)
  for (verb in setdiff(all_verbs, "run_worker")) expect_identical(resolve(verb = verb)$port, 5000L)
  # It need not have one.
  expect_null(resolve(verb = "run_worker")$port)
  expect_null(resolve()$admin_port)
  withr::local_envvar(FAUCET_PORT = "tcp://10.0.0.7:80")
  expect_identical(resolve()$port, 5000L)
  withr::local_envvar(FAUCET_PORT = "5001")
  expect_identical(resolve()$port, 5001L)
  withr::local_options(faucet.port = 5002)
  expect_identical(resolve()$port, 5002L)
  expect_identical(resolve(port = 5003)$port, 5003L)
})

test_that("PORT is taken from 0 to 65535, and ignored if it is anything else", {
  withr::local_envvar(FAUCET_PORT = NA)
  for (port in c("0", "80", "65535")) {
    withr::with_envvar(c(PORT = port), expect_identical(resolve()$port, as.integer(port)))
  }
  for (port in c("", "65536", "-1", "80.5", "1e3", "COM1", "tcp://10.0.0.7:80", "/dev/ttyUSB0", "\xff")) {
    withr::with_envvar(c(PORT = port), expect_identical(resolve()$port, 8080L, info = port))
  }
})

test_that("sizes are bytes or have a unit", {
  bytes <- function(size) resolve(max_body = size)$max_body
  expect_identical(bytes(5), 5)
  expect_identical(bytes(5L), 5)
  expect_identical(bytes("5"), 5)
  expect_identical(bytes("512B"), 512)
  expect_identical(bytes("64KB"), 64 * 1024)
  expect_identical(bytes("64 kb"), 64 * 1024)
  expect_identical(bytes("64KiB"), 64 * 1024)
  expect_identical(bytes("16MB"), 16 * 1024^2)
  expect_identical(bytes("1.5GB"), 1.5 * 1024^3)
  expect_identical(bytes(Inf), Inf)
  for (bad in list("16 megs", "MB", "", "-1MB", "1e3MB", -1, 0, NA, NULL, TRUE, c(1, 2), "Inf", NaN)) {
    expect_error(bytes(bad), class = "faucet_error_option", info = deparse(bad))
  }
})

test_that("times are seconds above 0", {
  expect_identical(resolve(timeout = 0.25)$timeout, 0.25)
  expect_identical(resolve(timeout = 2L)$timeout, 2)
  for (bad in list(0, -1, NA_real_, NULL, "1", TRUE, c(1, 2), as.difftime(1, units = "mins"), -Inf, 1e300)) {
    expect_error(resolve(timeout = bad), class = "faucet_error_option", info = deparse(bad))
  }
  expect_error(resolve(boot_timeout = Inf), class = "faucet_error_option")
  expect_error(resolve(interrupt_timeout = Inf), class = "faucet_error_option")
})

test_that("numbers are whole and within their limits", {
  expect_identical(resolve(workers = 4)$workers, 4L)
  expect_identical(resolve(max_requests = 1000)$max_requests, 1000)
  for (bad in list(0, -1, 1.5, NA, NaN, Inf, TRUE, 1e10, list(4), factor(4))) {
    expect_error(resolve(workers = bad), class = "faucet_error_option", info = deparse(bad))
  }
  expect_error(resolve(port = 65536), class = "faucet_error_option")
  expect_error(resolve(admin_port = -1), class = "faucet_error_option")
})

test_that("a number may be text, if it is whole and within its limits", {
  expect_identical(resolve(port = "8080")$port, 8080L)
  expect_identical(resolve(workers = " 4 ")$workers, 4L)
  expect_identical(resolve(max_requests = "1000")$max_requests, 1000)
  withr::with_options(list(faucet.port = "0"), expect_identical(resolve()$port, 0L))
  for (bad in c("", " ", "8.5", "-1", "+1", "1e3", "0x10", "1L", "1 2", "abc", "65536", "99999999999999999999", NA)) {
    error <- expect_error(resolve(port = bad), class = "faucet_error_option", info = bad)
    expect_match(conditionMessage(error), "`port` must be a whole number from 0 to 65535, not", fixed = TRUE, info = bad)
    withr::with_options(list(faucet.port = bad), {
      expect_error(resolve(), "Option `faucet.port` must be", fixed = TRUE, class = "faucet_error_option", info = bad)
    })
  }
  expect_error(resolve(workers = c("1", "2")), class = "faucet_error_option")
  expect_error(resolve(max_requests = "Inf"), class = "faucet_error_option")
})

test_that("an error names the setting, what it got and what it takes", {
  error <- expect_error(resolve(queue_timeout = -1), class = "faucet_error_option")
  expect_s3_class(error, "faucet_error")
  expect_identical(error$option, "queue_timeout")

  withr::local_envvar(FAUCET_TIMEOUT = "soon")
  withr::local_options(faucet.port = "http")
  expect_snapshot_errors({
    resolve(timeout = 1, port = 1, workers = 0)
    resolve(timeout = 1, port = 1, max_body = "16 {megs}")
    resolve(timeout = 1, port = 1, boot_timeout = NULL)
    resolve(timeout = 1, port = 1, access_log = "xml")
    resolve(timeout = 1, port = 1, trusted_proxies = NA)
    resolve(timeout = 1, port = 1, quiet = list())
    resolve(timeout = 1, port = 1, admin_port = c(1, 2))
    resolve(timeout = 1)
    resolve(port = 1)
  })
})

test_that("an unknown setting is an error that knows what was meant", {
  error <- expect_error(resolve(wrokers = 3), class = "faucet_error_option")
  expect_identical(error$option, "wrokers")
  expect_snapshot_errors({
    resolve(wrokers = 3)
    resolve(maxBody = 3)
    resolve(queue.timeout = 3)
    resolve(nonsense_that_is_far_off = 3)
    resolve(3)
    resolve(queue = 1, queue = 2)
  })
})

test_that("an option or a variable that is no setting raises a warning once, which knows what was meant", {
  names <- c("faucet.wrokers", "FAUCET_TIMEUOT", "FAUCET_nonsense_that_is_far_off")
  reset <- function() for (name in names) rlang::reset_warning_verbosity(unknown_setting_id(name))
  reset()
  withr::defer(reset())
  withr::local_options(faucet.wrokers = 3, faucet.queue = 5)
  withr::local_envvar(FAUCET_TIMEUOT = "3", FAUCET_nonsense_that_is_far_off = "1", FAUCET_QUEUE_TIMEUOT = "")
  warnings <- list()
  withCallingHandlers(resolve(), faucet_warning_unknown_setting = function(warning) {
    warnings[[length(warnings) + 1]] <<- warning
    rlang::cnd_muffle(warning)
  })
  expect_setequal(vapply(warnings, `[[`, "", "setting"), names)
  text <- rlang::set_names(vapply(warnings, conditionMessage, ""), vapply(warnings, `[[`, "", "setting"))
  expect_match(text[["faucet.wrokers"]], "Option `faucet.wrokers` is ignored", fixed = TRUE)
  expect_match(text[["faucet.wrokers"]], "Did you mean `faucet.workers`?", fixed = TRUE)
  expect_match(text[["FAUCET_TIMEUOT"]], "Did you mean `FAUCET_TIMEOUT`?", fixed = TRUE)
  expect_no_match(text[["FAUCET_nonsense_that_is_far_off"]], "Did you mean", fixed = TRUE)
  expect_no_warning(resolve(), class = "faucet_warning_unknown_setting")
  expect_no_warning(resolve(verb = "run_k8s"), class = "faucet_warning_unknown_setting")
})

test_that("variables of faucet's own, of its build and of Kubernetes raise no warning", {
  names <- c(
    own_variables, unlist(lapply(names(setting_definitions()), setting_variables), use.names = FALSE),
    "FAUCET_SERVICE_HOST", "FAUCET_SERVICE_PORT_HTTP", "FAUCET_PORT_8080_TCP_ADDR", "FAUCET_FRONT_SERVICE_HOST",
    "FAUCET_FRONT_SERVICE_PORT", "FAUCET_FRONT_PORT_8080_TCP", "FAUCETS", "MY_FAUCET_X", "FAUCET_TEST_VARIABLE"
  )
  expect_no_warning(warn_of_unknown_settings(c("faucets.x", "digits", "faucet.port"), names))
  withr::local_envvar(FAUCET_FRONT_PORT = "tcp://10.0.0.7:80")
  expect_false("FAUCET_FRONT_PORT" %in% environment_names())
})

test_that("an environment that R cannot list is no error", {
  withr::local_envvar(NOT_TEXT = "\xff")
  expect_no_error(resolve())
  expect_no_warning(resolve())
})

test_that("the help page's table has every setting, who takes it, its option and its variable", {
  table <- settings_table()
  expect_match(table, "| `host` | all | string | `\"127.0.0.1\"`; of `run_k8s`: `\"0.0.0.0\"` |", fixed = TRUE)
  expect_match(table, "| `workers` | `run`, `run_worker` |", fixed = TRUE)
  expect_match(table, "| `refresh` | `run_k8s` |", fixed = TRUE)
  for (name in names(setting_definitions())) {
    expect_match(table, paste0("| `", name, "` |"), fixed = TRUE)
    expect_match(table, paste0("`faucet.", name, "`"), fixed = TRUE)
    for (variable in setting_variables(name)) expect_match(table, paste0("`", variable, "`"), fixed = TRUE)
  }
})

test_that("a path is absolute from where it was given", {
  dir <- withr::local_tempdir()
  withr::local_dir(dir)
  expect_identical(resolve(log_file = "access.log")$log_file, file.path(normalizePath(dir), "access.log"))
})

test_that("a collector is a URL, for each verb", {
  for (verb in all_verbs) {
    expect_identical(resolve(otlp = "http://127.0.0.1:4318", verb = verb)$otlp, "http://127.0.0.1:4318")
  }
  withr::local_envvar(FAUCET_OTLP = "https://otlp.example.com/api")
  expect_identical(resolve()$otlp, "https://otlp.example.com/api")
  for (value in list("collector:4318", "http://", "http://user:secret@collector", "grpc://collector", "", 4318)) {
    error <- expect_error(resolve(otlp = value), class = "faucet_error_option")
    expect_identical(error$option, "otlp")
  }
})

test_that("an abbreviated name is an error, and says which name fits the value", {
  refused <- function(call, name, meant) {
    error <- expect_error(call, class = "faucet_error_option")
    expect_identical(error$option, name)
    expect_match(conditionMessage(error), paste0("Did you mean `", meant, "`?"), fixed = TRUE)
  }
  wrapper <- function(...) faucet::run(...)
  refused(faucet::run("nowhere", w = 3), "w", "workers")
  refused(faucet::run("nowhere", worker = 3), "worker", "workers")
  refused(faucet::run("nowhere", worker = "native"), "worker", "worker_type")
  refused(wrapper("nowhere", worker = "http"), "worker", "worker_type")
  refused(faucet::run("nowhere", worker = "nonsense"), "worker", "workers")
  refused(faucet::run("nowhere", 2, worker = "native"), "worker", "worker_type")
  refused(faucet::pool("nowhere", worker = "native"), "worker", "worker_type")
  refused(faucet::pool("nowhere", worker = 2), "worker", "workers")
  refused(wrapper("nowhere", por = 3), "por", "port")
  refused(do.call(faucet::run, list("nowhere", bl = FALSE)), "bl", "block")
  refused(faucet::run_k8s(u = "http://api"), "u", "url")
  error <- expect_error(faucet::run("nowhere", worker_type = "nonsense"), class = "faucet_error_option")
  expect_identical(error$option, "worker_type")
  expect_error(faucet::run("nowhere", 2, worker_type = "native"), class = "faucet_error_dir")
})

test_that("the value tells which setting is meant also in an option, a variable and a file", {
  withr::local_options(faucet.worker = "native")
  withr::local_envvar(FAUCET_WORKER = "http")
  rlang::reset_warning_verbosity("faucet_warning_unknown_setting:faucet.worker")
  rlang::reset_warning_verbosity("faucet_warning_unknown_setting:FAUCET_WORKER")
  expect_warning(
    expect_warning(resolve(), "Did you mean `faucet.worker_type`", class = "faucet_warning_unknown_setting"),
    "Did you mean `FAUCET_WORKER_TYPE`", class = "faucet_warning_unknown_setting"
  )
  file <- withr::local_tempfile(fileext = ".yml", lines = c("worker: native", "pools:", "  /: api"))
  expect_error(faucet::run(file), "Did you mean `worker_type`", class = "faucet_error_config")
})
