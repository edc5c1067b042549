# What an app counts by itself, shown with faucet's own metrics.

#' Metrics of an API's own
#'
#' An API can count what only it knows: orders, cache misses, seconds that a model took. What R code counts in any worker is on
#' the page `/metrics` of the server's `admin_port`, summed over all its workers, with the label `pool` like faucet's own
#' metrics. Counters and histograms keep what workers have counted that are gone, whether they were restarted, recycled, reloaded
#' or killed. A gauge is the sum of what the workers say that live.
#'
#' Metrics are made once, where the app is loaded, and used in its handlers. To make one again that is there, by the same name
#' and of the same kind, gives the same one.
#'
#' - A *counter* only goes up: `$inc(by = 1, ...)`. Prometheus sees its name with `_total` at the end.
#' - A *gauge* goes up and down: `$set(value, ...)`, `$inc(by = 1, ...)`, `$dec(by = 1, ...)`.
#' - A *histogram* tells how many values fall into which range: `$observe(value, ...)`.
#' - Each has `$value(...)`: what this process has counted in one series, a number, or of a histogram its `count` and `sum`.
#'
#' @section Labels:
#' What `...` stands for are labels, each with a name: `orders$inc(country = "de")`. A character vector with names is a set of
#' labels, too: `orders$inc(c(country = "de"))`, and so labels called `by` or `value` are given. A number without a name comes
#' first: `orders$inc(2, country = "de")`. A value is one string, number, logical or factor; `NULL`, `NA` and `""` are as good
#' as no label. Names consist of letters (a-z, A-Z), digits and `_`; `pool`, `le` and `quantile` are taken, and so is what
#' begins with `__`.
#'
#' Each combination of values is a series of its own, which is kept for as long as the server runs. Have few of them: countries,
#' not customers. A process has at most 1000 series. What would be one more is not counted, which the log says once and
#' `faucet_metric_updates_dropped_total` counts. A series has at most 8 labels. Values are cut after 200 bytes.
#'
#' @section Where it counts:
#' In workers of all types, and in those that are forked with `preload`, which begin with zeros. Elsewhere (in a template, in
#' processes that a worker starts or forks, in a plain session or a test) it counts in memory only.
#' To count takes microseconds, and waits for nobody.
#'
#' If two processes have different metrics of one name, that which was there first is shown until no worker has it any more. So
#' a reload may change a metric, and it begins anew.
#'
#' @param name The metric's name: letters (a-z, A-Z), digits and `_`, at most 100 characters. Base units are usual: seconds,
#'   bytes. What begins with `faucet_` is faucet's own.
#' @param help What it counts, in a sentence of at most 400 bytes.
#' @param buckets Upper bounds of the ranges, 1 to 50 numbers in ascending order, in the unit of the values. One without a bound
#'   comes on top of them.
#' @return An object of class `faucet_metric` with the functions above.
#'
#' @section Error conditions:
#' - `faucet_error_option`: a name, a label or a number is not what it may be. Field `option`: which argument.
#' - `faucet_error_metric`: there is a metric of this name that is of another kind, or has other buckets.
#'
#' @seealso The section on Prometheus in `vignette("deploy", package = "faucet")`.
#' @source The format: <https://prometheus.io/docs/specs/om/open_metrics_spec/>
#' @export
#' @examples
#' # In plumber.R
#' orders <- metric_counter("orders", "Orders that were taken.")
#' waiting <- metric_gauge("orders_waiting", "Orders that wait for a decision.")
#' seconds <- metric_histogram("model_seconds", "What the model takes.", buckets = c(0.01, 0.1, 1, 10))
#'
#' #* @post /orders
#' function(country = "de") {
#'   orders$inc(country = country)
#'   waiting$inc()
#'   on.exit(waiting$dec())
#'   took <- system.time(Sys.sleep(0.01))
#'   seconds$observe(took[["elapsed"]])
#' }
#'
#' # Here they count in memory
#' orders$inc(country = "de")
#' orders$inc(2, country = "fr")
#' orders
metric_counter <- function(name, help = "") {
  new_metric("counter", name, help)
}

#' @rdname metric_counter
#' @export
metric_gauge <- function(name, help = "") {
  new_metric("gauge", name, help)
}

#' @rdname metric_counter
#' @export
metric_histogram <- function(name, help = "", buckets = c(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)) {
  new_metric("histogram", name, help, buckets)
}

# Those that were made in this process, by name: one is the same however often it is asked for.
metrics <- new.env(parent = emptyenv())

new_metric <- function(kind, name, help, buckets = numeric(), call = rlang::caller_env()) {
  for (argument in c("name", "help")) {
    if (!rlang::is_string(get(argument))) {
      got <- describe_value(get(argument))
      abort("option", "{.arg {argument}} must be a string, not {got}.", option = argument, call = call)
    }
  }
  if (!is.numeric(buckets) || anyNA(buckets)) {
    got <- describe_value(buckets)
    abort("option", "{.arg buckets} must be numbers, not {got}.", option = "buckets", call = call)
  }
  definition <- list(kind = kind, name = valid_text(name), help = valid_text(help), buckets = as.double(buckets))
  definition$name <- define_metric(definition, call)
  if (is.null(metrics[[definition$name]])) {
    metrics[[definition$name]] <- metric_object(definition)
  }
  metrics[[definition$name]]
}

# Makes the metric known to the native side. Returns its name as it is known there.
define_metric <- function(definition, call) {
  defined <- metric_define(definition$kind, definition$name, definition$help, definition$buckets)
  if (isTRUE(defined$ok)) {
    return(defined$name)
  }
  name <- definition$name
  if (is.null(defined$kind)) raise_metric_failure(defined, call)
  abort("metric", c(
    "There is a metric {.val {name}} already, and it is another one.",
    i = if (defined$kind == definition$kind) "It has other buckets." else "It is a {defined$kind}."
  ), call = call)
}

# `number`: what the function calls it.
raise_metric_failure <- function(failure, call, number = NULL) {
  at <- attr(failure, "argument")
  message <- failure$message
  if (at == "labels") {
    abort("option", "{message}.", option = at, call = call)
  }
  argument <- if (at == "value") number else at
  abort("option", "{.arg {argument}} {message}.", option = argument, call = call)
}

# What its functions hold is plain, so that they work in any process: an app may be saved and read elsewhere.
metric_object <- function(definition) {
  force(definition)
  change <- function(how, number, given, argument, call) {
    parts <- split_number(given)
    if (!is.null(parts$number)) number <- parts$number
    if (rlang::is_missing(number)) {
      abort("option", "{.arg {argument}} must be given: one number.", option = argument, call = call)
    }
    if (!is.numeric(number) || length(number) != 1 || is.na(number)) {
      got <- describe_value(number)
      abort("option", c(
        "{.arg {argument}} must be one number, not {got}.",
        i = if (is.character(number)) "Labels have names: {.code (country = \"de\")}."
      ), option = argument, call = call)
    }
    change_metric(definition, how, number, metric_labels(parts$labels, call), argument, call)
  }
  # What comes behind `...` is taken by its whole name alone: a label `b` is not taken for `by`.
  functions <- list(
    inc = function(..., by = 1) change("add", by, list(...), "by", environment()),
    dec = function(..., by = 1) change("subtract", by, list(...), "by", environment()),
    set = function(..., value) change("set", value, list(...), "value", environment()),
    observe = function(..., value) change("observe", value, list(...), "value", environment()),
    value = function(...) metric_value(definition, metric_labels(list(...), environment()))
  )
  own <- switch(definition$kind, counter = "inc", gauge = c("set", "inc", "dec"), histogram = "observe")
  structure(
    functions[c(own, "value")],
    class = c(paste0("faucet_", definition$kind), "faucet_metric"),
    definition = definition
  )
}

change_metric <- function(definition, how, number, labels, argument, call) {
  if (how == "subtract") {
    how <- "add"
    number <- -number
  }
  changed <- metric_change(definition$name, how, as.double(number), names(labels), unname(labels))
  if (is.null(changed)) {
    return(invisible())
  }
  if (isTRUE(changed$ok)) {
    # No warning, which the app may have made an error.
    message(changed$note)
  } else if (is.null(changed$message)) {
    # It was made in another process.
    define_metric(definition, call)
    change_metric(definition, how, number, labels, argument, call)
  } else {
    raise_metric_failure(changed, call, argument)
  }
  invisible()
}

# What was given without a name may be the number, and comes first.
split_number <- function(given) {
  has_number <- length(given) > 0 && !nzchar(rlang::names2(given)[[1]]) && !rlang::is_named(given[[1]])
  if (has_number) list(number = given[[1]], labels = given[-1]) else list(labels = given)
}

# What was given as labels, as a character vector with names.
metric_labels <- function(given, call) {
  if (length(given) == 0) {
    return(rlang::set_names(character(), character()))
  }
  is_named <- nzchar(rlang::names2(given))
  if (all(is_named) && are_strings(given)) {
    # As nearly always, and it is called often.
    return(valid_text(unlist(given)))
  }
  sets <- vapply(given, function(value) is.character(value) && rlang::is_named(value), NA)
  if (!all(is_named | sets)) {
    got <- describe_value(given[!(is_named | sets)][[1]])
    abort("option", c(
      "Labels must have names, unlike {got}.",
      i = "As in {.code $inc(country = \"de\")}, or {.code $inc(c(country = \"de\"))}."
    ), option = "labels", call = call)
  }
  label_texts(c(given[is_named], unlist(lapply(given[!is_named], as.list), recursive = FALSE)), call)
}

label_texts <- function(given, call) {
  labels <- vapply(given, function(value) label_text(value) %||% NA_character_, "")
  if (anyNA(labels)) {
    got <- describe_value(given[is.na(labels)][[1]])
    label <- names(given)[is.na(labels)][[1]]
    abort("option", "The value of label {.arg {label}} must be one string, not {got}.", option = "labels", call = call)
  }
  names(labels) <- valid_text(names(labels))
  labels
}

are_strings <- function(values) {
  all(vapply(values, is.character, NA)) && all(lengths(values) == 1) && !anyNA(values)
}

# "" for what is as good as no label, NULL for what is none.
label_text <- function(value) {
  if (length(value) == 0 || (is.atomic(value) && length(value) == 1 && is.na(value))) {
    ""
  } else if (is.atomic(value) && length(value) == 1) {
    valid_text(as.character(value))
  }
}

# UTF-8, whatever it was. Bytes that are no text are shown as such.
valid_text <- function(text) {
  utf8 <- enc2utf8(text)
  bad <- !validUTF8(utf8)
  if (any(bad)) utf8[bad] <- iconv(utf8[bad], "UTF-8", "UTF-8", sub = "byte")
  # Which enc2utf8() takes away.
  names(utf8) <- names(text)
  utf8
}

metric_value <- function(definition, labels) {
  labels <- labels[nzchar(labels)]
  for (series in metric_series(definition$name)) {
    if (setequal(names(series$labels), names(labels)) && all(series$labels[names(labels)] == labels)) {
      return(shown_value(definition, series$numbers))
    }
  }
  shown_value(definition, numeric(length(definition$buckets) + 2))
}

shown_value <- function(definition, numbers) {
  if (definition$kind == "histogram") {
    last <- length(numbers)
    list(count = sum(numbers[-last]), sum = numbers[[last]])
  } else {
    numbers[[1]]
  }
}

#' @export
format.faucet_metric <- function(x, ...) {
  definition <- attr(x, "definition")
  series <- metric_series(definition$name)
  shown <- utils::head(series, 10)
  labels <- vapply(shown, function(series) {
    paste0("{", paste0(names(series$labels), "=", encodeString(series$labels, quote = "\""), collapse = ", "), "}")
  }, "")
  labels[vapply(shown, function(series) length(series$labels) == 0, NA)] <- "{}"
  values <- vapply(shown, function(series) {
    value <- shown_value(definition, series$numbers)
    if (is.list(value)) paste(format(value$count), "values, sum", format(value$sum)) else format(value)
  }, "")
  c(
    paste0("<faucet_", definition$kind, "> ", definition$name),
    if (nzchar(definition$help)) definition$help,
    if (length(shown) > 0) paste0("  ", format(labels), "  ", values),
    if (length(series) > length(shown)) paste0("  and ", length(series) - length(shown), " more series")
  )
}

#' @export
print.faucet_metric <- function(x, ...) {
  cli::cat_line(format(x, ...))
  invisible(x)
}
