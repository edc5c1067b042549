#' When a machine takes work
#'
#' What [run_worker()] offers to hubs while, and only while, a machine can bear it: a slot is offered while its gate is open, and
#' taken back when the gate closes. Requests that are being answered go on.
#'
#' - `gate_cpu()`: so many cores must be idle for each offer, of the machine and of what its cgroups (those of a container) leave
#'   to this process.
#' - `gate_memory()`: so much memory must be free for each offer, in the machine and in its cgroups.
#' - `gate()`: a function says so.
#' - `gate_cpu() & gate_memory()` is open while both are.
#'
#' @section What a job reserves:
#' A request that has just begun does not show in the measurements yet. So each reserves what an offer needs; this decays, within
#' seconds, as its own load comes to show, and is given back when it is answered. Thus a burst of requests does not overcommit the
#' machine, and requests that turn out to need little make room for others. The machine is looked at four times a second; idle
#' cores are a mean over the last second. A core counts as idle if a tenth of it is used.
#'
#' @section Conditions in R:
#' The function of `gate()` is called in the session that called [run_worker()], never in a worker, about once a second:
#' while that call waits, or, with `block = FALSE`, whenever R is idle. Until its first answer the gate is closed, and each
#' answer holds until the next. Serving does not wait for it. Signals do, so one that takes longer than 10 seconds is broken
#' off, if it is R code. An error in it, or a value that is neither `TRUE` nor `FALSE`, closes the gate, and the log says
#' why.
#'
#' @section One job is always allowed:
#' While a machine has no request, one slot is offered whatever the gates say: else one that is busy with other things, or
#' too small for what its gates ask, would never do anything. With `strict = TRUE` that is so.
#'
#' @param idle Cores that must be idle for each offer: a number above 0, such as `0.5`.
#' @param free Memory that must be free for each offer: bytes, or a string such as `"4GB"`.
#' @param condition A function without arguments that returns `TRUE` or `FALSE`.
#' @param strict Whether a closed gate keeps the machine from its only job, too. Of several gates, all are strict if one is.
#'
#' @return An object of class `faucet_gate`, for [run_worker()].
#'
#' @section Error conditions:
#' - `faucet_error_option`: an argument has a value that it does not take. Field `option`: its name.
#' - `faucet_error_unsupported`: the system does not tell how busy its cores are, or how much memory is free. Linux does.
#'
#' A gate for more cores than there are raises a warning of class `faucet_warning_gate`.
#'
#' @seealso [run_worker()]
#' @export
#' @examplesIf file.exists("/proc/stat")
#' gate_cpu(0.5) & gate_memory("1GB")
#'
#' # At night
#' gate(function() as.POSIXlt(Sys.time())$hour < 6)
gate_cpu <- function(idle = 1, strict = FALSE) {
  call <- rlang::current_env()
  if (!is_number(idle) || idle <= 0 || is.infinite(idle)) {
    got <- describe_value(idle)
    abort("option", "{.arg idle} must be a number of cores above 0, not {got}.", option = "idle", call = call)
  }
  check_told("cpu", "how busy its cores are", call = call)
  cores <- usable_cores()
  if (idle > cores) {
    rlang::warn(
      c(
        paste0("This gate never opens: ", idle, " cores cannot be idle where there are ", cores, "."),
        i = if (isTRUE(strict)) "No request will be taken here." else "One request at a time will be taken here."
      ),
      class = "faucet_warning_gate"
    )
  }
  new_gate(list(list(kind = "cpu", idle = as.numeric(idle))), strict, call = call)
}

#' @rdname gate_cpu
#' @export
gate_memory <- function(free = "4GB", strict = FALSE) {
  call <- rlang::current_env()
  free <- check_setting(free, "free", setting("size", NULL, "", min = 1), call = call)
  check_told("memory", "how much of its memory is free", call = call)
  new_gate(list(list(kind = "memory", free = free)), strict, call = call)
}

#' @rdname gate_cpu
#' @export
gate <- function(condition, strict = FALSE) {
  call <- rlang::current_env()
  if (missing(condition) || !is.function(condition)) {
    got <- if (missing(condition)) "nothing" else describe_value(condition)
    abort("option", c(
      "{.arg condition} must be a function that returns TRUE or FALSE, not {got}.",
      i = "For example {.code gate(function() file.exists(\"go\"))}."
    ), option = "condition", call = call)
  }
  new_gate(list(list(kind = "asked", condition = condition)), strict, call = call)
}

new_gate <- function(all, strict, call = NULL) {
  strict <- check_setting(strict, "strict", setting("flag", FALSE, ""), call = call)
  structure(list(all = all, strict = strict), class = "faucet_gate")
}

check_told <- function(kind, what, call = NULL) {
  if (!gate_is_told(kind)) {
    abort("unsupported", c(
      "This system does not tell {what}.",
      i = "With {.fun gate}, a function of yours can say when to take work."
    ), call = call)
  }
}

#' @export
`&.faucet_gate` <- function(e1, e2) {
  for (gate in list(e1, e2)) check_gate(gate, "Both sides of `&` must be gates", "&", call = rlang::current_env())
  structure(list(all = c(e1$all, e2$all), strict = e1$strict || e2$strict), class = "faucet_gate")
}

check_gate <- function(gate, what, option, call = NULL) {
  if (!inherits(gate, "faucet_gate")) {
    got <- describe_value(gate)
    abort("option", c(
      "{what}, not {got}.",
      i = if (is.function(gate)) "{.code gate(f)} makes one of a function."
    ), option = option, call = call)
  }
}

#' @export
format.faucet_gate <- function(x, ...) {
  conditions <- vapply(x$all, function(gate) {
    switch(
      gate$kind,
      cpu = paste0(gate$idle, " idle core", if (gate$idle != 1) "s", " for each offer"),
      memory = paste(format_size(gate$free), "of free memory for each offer"),
      asked = paste(strtrim(paste(trimws(deparse(gate$condition)), collapse = " "), 100), "says so")
    )
  }, "")
  c(
    cli::col_grey("<faucet_gate>"),
    paste(ifelse(seq_along(conditions) == 1, "  ", "& "), conditions, sep = ""),
    if (x$strict) "strict: else not even one job is allowed"
  )
}

#' @export
print.faucet_gate <- function(x, ...) {
  cat(format(x), sep = "\n")
  invisible(x)
}

# In the largest unit that leaves a number above 1.
format_size <- function(bytes) {
  power <- min(4, max(0, floor(log(bytes, 1024))))
  paste(format(bytes / 1024^power, digits = 3), c("bytes", "KB", "MB", "GB", "TB")[[power + 1]])
}

# What the native side is told: it asks R for the rest.
native_gates <- function(gate) {
  all <- lapply(gate$all, function(gate) gate[names(gate) != "condition"])
  list(all = all, strict = isTRUE(gate$strict))
}

# Between two questions to the conditions in R, in seconds, and the longest time that an answer may take.
pause_between_answers <- 1
longest_answer <- 10

# Asks the conditions in R, one after the other, if it is time. To be called in the loops that wait. One that fails is an event
# in the log, and so is one that works again.
gatekeeper <- function(link, gate, tell = function(number, open) server_answer_gate(link$handle, number, open)) {
  force(link)
  asked <- which(vapply(gate$all, function(gate) gate$kind == "asked", NA))
  last <- -Inf
  is_asking <- FALSE
  troubles <- vector("list", length(gate$all))
  report <- function(number, trouble) {
    if (identical(trouble, troubles[[number]])) {
      return(invisible())
    }
    which <- if (length(asked) > 1) paste("Gate", number) else "The gate"
    if (is.null(trouble)) {
      if (!link$quiet) show_event(paste(which, "works again"))
    } else {
      show_event(paste0(which, " is closed: ", trouble), "error")
    }
    troubles[number] <<- list(trouble)
  }
  function(now = seconds_now()) {
    # A condition may run R's event loop, which asks again.
    if (length(asked) == 0 || is_asking || now - last < pause_between_answers) {
      return(invisible())
    }
    is_asking <<- TRUE
    on.exit({
      is_asking <<- FALSE
      last <<- seconds_now()
    })
    for (number in asked) {
      answer <- ask(gate$all[[number]]$condition)
      tell(number, answer$open)
      report(number, answer$trouble)
    }
    invisible()
  }
}

# Whether a condition holds, and what is wrong with it.
ask <- function(condition, patience = longest_answer) {
  tryCatch(
    {
      open <- within_time(condition, patience)
      if (rlang::is_bool(open)) {
        list(open = open)
      } else {
        list(open = FALSE, trouble = paste0("it must be TRUE or FALSE, not ", describe_value(open)))
      }
    },
    error = function(error) list(open = FALSE, trouble = gsub("[[:space:]]+", " ", conditionMessage(error)))
  )
}

within_time <- function(f, seconds) {
  setTimeLimit(elapsed = seconds, transient = TRUE)
  on.exit(setTimeLimit())
  f()
}
