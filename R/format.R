# What `print()` and `str()` show of a server.

# The address, and the state.
summarise_server <- function(link) {
  status <- tryCatch(server_state(link), faucet_error_handle = function(condition) NULL)
  state <- if (is.null(status)) {
    foreign_handle
  } else if (is_running(link)) {
    paste0("running: ", format_counts(link, status))
  } else {
    "stopped"
  }
  c(format_title(link), state)
}

# Of workers elsewhere, which may be a thousand, so many are shown.
most_replicas <- 20

foreign_handle <- "This handle belongs to another R process."

format_title <- function(link) {
  paste0(cli::col_grey("<faucet_server> "), if (is.null(link$url)) "without clients of its own" else cli::style_bold(link$url))
}

# What goes on between hubs and workers.
format_dialling <- function(link) {
  if (!is.null(link$worker_address)) {
    c(
      paste("workers dial in at", link$worker_address),
      if (!is.null(link$pothead_address)) paste("those of POTHEAD at", link$pothead_address)
    )
  } else if (!is.null(link$hubs)) {
    paste("slots are offered to", paste(link$hubs, collapse = ", "))
  }
}

format_server <- function(link) {
  status <- tryCatch(server_state(link), faucet_error_handle = function(condition) NULL)
  if (is.null(status)) {
    return(c(format_title(link), foreign_handle))
  }
  several <- length(status$pools) > 1
  what <- if (several) paste("pools", paste(status$pools, collapse = ", ")) else link$dir %||% link$replicas
  details <- c(what, format_dialling(link))
  head <- c(format_title(link), if (!is.null(details)) cli::col_grey(details))
  if (!is_running(link)) {
    return(c(head, "stopped"))
  }
  c(head, format_running(link, status, lookup_state(link)))
}

format_running <- function(link, status, lookup) {
  counts <- paste0(format_counts(link, status), ", ", sum(status$in_flight), " in flight, ", status$queue, " waiting")
  are_elsewhere <- !is.null(link$replicas) || !is.null(link$worker_address)
  columns <- if (are_elsewhere) replica_columns(status) else worker_columns(status)
  table <- format_table(
    if (length(status$pools) > 1) c(list(pool = status$pool), columns) else columns,
    if (are_elsewhere) most_replicas else Inf
  )
  c(counts, format_lookup(lookup), table)
}

# How many workers there are, how many replicas cannot be reached, and how many workers do not start.
format_counts <- function(link, status) {
  # One that leaves and the one that takes its place have the same number.
  count <- nrow(unique(data.frame(pool = status$pool, worker = status$worker)))
  suspended <- sum(status$state == "suspended")
  failed <- status$state == "failed"
  noun <- if (is.null(link$replicas)) "worker" else "replica"
  if (count == 0 && !is.null(link$worker_address)) {
    return("no workers yet")
  }
  if (count == 0 && is.null(link$replicas)) {
    return("no workers: the next request starts one")
  }
  paste0(
    count, " ", noun, if (count != 1) "s",
    if (suspended > 0) paste0(" (", suspended, " suspended)"),
    if (any(failed)) paste0(" (", sum(failed), " failed, ", format_next_try(status$next_try[failed]), ")")
  )
}

format_next_try <- function(times) {
  times <- times[!is.na(times)]
  if (length(times) == 0) "not tried yet" else paste("next try at", format(.POSIXct(min(times)), "%H:%M:%S"))
}

# Nothing, as long as all is well.
format_lookup <- function(lookup) {
  if (is.data.frame(lookup)) {
    troubled <- lookup[!is.na(lookup$trouble), ]
    return(cli::col_yellow(paste0("hub ", troubled$hub, ": ", troubled$trouble, recycle0 = TRUE)))
  }
  if (!is.null(lookup) && is.null(lookup$state)) {
    # Of several pools.
    return(unlist(lapply(lookup, format_lookup)))
  }
  if (is.null(lookup) || lookup$state == "ok") {
    return(NULL)
  }
  what <- paste("lookup", lookup$state, "since", format_time(lookup$since))
  cli::col_yellow(if (is.na(lookup$message)) what else paste0(what, ": ", lookup$message))
}

worker_columns <- function(status) {
  columns <- list(
    worker = status$worker,
    pid = or_dash(status$pid),
    state = status$state,
    worker_type = or_dash(status$worker_type),
    sessions = if (!all(is.na(status$sessions))) or_dash(status$sessions),
    in_flight = status$in_flight,
    requests = format(status$requests, scientific = FALSE, trim = TRUE),
    restarts = status$restarts,
    memory = format_memory(status$memory),
    started = format_time(status$started),
    boot = ifelse(is.na(status$boot), "-", sprintf("%.2f s", status$boot))
  )
  Filter(Negate(is.null), columns)
}

replica_columns <- function(status) {
  columns <- list(
    worker = status$worker,
    name = if (!all(is.na(status$name))) or_dash(status$name),
    address = or_dash(status$address),
    state = status$state,
    worker_type = or_dash(status$worker_type),
    slots = or_dash(status$slots),
    in_flight = status$in_flight,
    requests = format(status$requests, scientific = FALSE, trim = TRUE),
    found = format_time(status$started)
  )
  Filter(Negate(is.null), columns)
}

# The first rows, and how many more there are.
format_table <- function(columns, most = Inf) {
  rows <- length(columns[[1]])
  if (rows == 0) {
    return(NULL)
  }
  shown <- seq_len(min(rows, most))
  cells <- Map(function(name, values) format(c(name, values[shown]), justify = "right"), names(columns), columns)
  lines <- do.call(paste, c(unname(cells), sep = "  "))
  c(
    cli::style_bold(lines[[1]]), lines[-1],
    if (rows > most) cli::col_grey(paste("and", rows - most, "more: see $status()"))
  )
}

or_dash <- function(values) {
  ifelse(is.na(values), "-", values)
}

format_time <- function(seconds) {
  ifelse(is.na(seconds), "-", format(.POSIXct(seconds), "%Y-%m-%d %H:%M:%S"))
}
