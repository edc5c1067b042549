# A DNS server on loopback, dnsmasq, whose answers a test changes while a front asks it.

# `$set(name, addresses)` says what a name leads to, `$srv()` adds SRV records; `$empty(name)`: there is the name, but no
# address; `$remove(name)`: there is no such name. Each returns when the server answers so. `$stop()`, `$start()`, and
# `$address` for the setting `dns`, which is a port of its own choice unless `listen` says otherwise.
local_dns <- function(ttl = 0, listen = NULL, env = parent.frame()) {
  skip_on_os(c("windows", "mac", "solaris"))
  # Debian puts it where only root looks.
  command <- Sys.which("dnsmasq")
  if (!nzchar(command)) command <- "/usr/sbin/dnsmasq"
  skip_if_not(file.exists(command), "dnsmasq is not installed")

  files <- withr::local_tempdir(pattern = "dns-", .local_envir = env)
  dns <- new.env()
  dns$hosts <- list()
  dns$services <- character()
  dns$process <- NULL
  dns$address <- NULL

  dns$launch <- function(address) {
    where <- strsplit(address, ":", fixed = TRUE)[[1]]
    write_hosts(dns, files)
    dns$process <- processx::process$new(
      command,
      c(
        # With --no-daemon it would serve one TCP connection at a time.
        "--keep-in-foreground", "--conf-file=/dev/null", "--pid-file=", "--log-queries",
        paste0("--log-facility=", file.path(files, "log")),
        paste0("--port=", where[[2]]), paste0("--listen-address=", where[[1]]), "--bind-interfaces", "--no-resolv", "--no-hosts",
        paste0("--local-ttl=", ttl),
        # It would give up root, and then not see this session's files.
        if (Sys.info()[["user"]] == "root") "--user=root",
        if (dns$knows) c(dns$services, paste0("--addn-hosts=", file.path(files, "hosts")), "--local=/test/")
      )
    )
    wait_until(
      !dns$process$is_alive() || !is.null(ask_dns(address, "nosuch.test")),
      what = "dnsmasq to answer"
    )
    dns$process$is_alive()
  }

  # A server that does not know the names refuses to answer.
  dns$start <- function(knows = TRUE) {
    dns$knows <- knows
    # A port that is free for TCP may be taken for UDP. Once there is one, it stays.
    dns$address <- wait_until(
      {
        address <- dns$address %||% listen %||% paste0("127.0.0.1:", free_port())
        if (dns$launch(address)) address
      },
      what = "dnsmasq to start"
    )
    invisible(dns)
  }

  dns$stop <- function() {
    dns$process$kill()
    dns$process$wait()
    invisible(dns)
  }

  dns$set <- function(name, addresses) {
    dns$hosts[[name]] <- addresses
    dns$hosts[[paste0("none.", name)]] <- NULL
    publish_hosts(dns, files, name, addresses)
  }

  # There is something below the name, so there is the name.
  dns$empty <- function(name) {
    dns$hosts[[name]] <- NULL
    dns$hosts[[paste0("none.", name)]] <- "127.0.0.1"
    publish_hosts(dns, files, name, character())
  }

  dns$remove <- function(name) {
    dns$hosts[[name]] <- NULL
    dns$hosts[[paste0("none.", name)]] <- NULL
    publish_hosts(dns, files, name, NULL)
  }

  # SRV records, as "host:port" each. For these dnsmasq starts again.
  dns$srv <- function(name, targets) {
    dns$services <- sprintf("--srv-host=%s,%s", name, sub(":", ",", targets, fixed = TRUE))
    if (dns$process$is_alive()) dns$stop()$start()
    invisible(dns)
  }

  # How often its addresses were asked for, by others than this test.
  dns$asked <- function(name) {
    lines <- readLines(file.path(files, "log"), warn = FALSE)
    sum(grepl(paste0(" query[A] ", name, " from"), lines, fixed = TRUE))
  }

  withr::defer(if (dns$process$is_alive()) dns$process$kill(), envir = env)
  dns$start()
}

write_hosts <- function(dns, files) {
  writeLines(paste(unlist(dns$hosts), rep(names(dns$hosts), lengths(dns$hosts))), file.path(files, "hosts"))
}

publish_hosts <- function(dns, files, name, addresses) {
  write_hosts(dns, files)
  if (dns$process$is_alive()) {
    dns$process$signal(sig[["hup"]])
    # It knows names of IPv4 addresses and of IPv6 ones; the latter are not looked at here.
    expected <- if (!is.null(addresses)) sort(grep(":", addresses, fixed = TRUE, value = TRUE, invert = TRUE))
    wait_until(identical(ask_dns(dns$address, name)$addresses, expected), what = paste("DNS to know", name))
  }
  invisible(dns)
}

# The IPv4 addresses of a name by DNS over TCP, sorted: `addresses` is NULL if there is no such name. NULL if nobody
# answers.
ask_dns <- function(address, name) {
  labels <- strsplit(name, ".", fixed = TRUE)[[1]]
  # A question for all that is known (class IN, type ANY), with recursion desired.
  question <- c(
    as.raw(c(0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0)),
    unlist(lapply(labels, function(label) c(as.raw(nchar(label)), charToRaw(label)))), as.raw(c(0, 0, 255, 0, 1))
  )
  answer <- tryCatch(
    {
      server <- strsplit(address, ":", fixed = TRUE)[[1]]
      connection <- suppressWarnings(
        socketConnection(server[[1]], as.integer(server[[2]]), blocking = TRUE, open = "r+b", timeout = 5)
      )
      on.exit(close(connection))
      writeBin(c(as.raw(c(0, length(question))), question), connection)
      length <- readBin(connection, "integer", size = 2, endian = "big", signed = FALSE)
      as.integer(readBin(connection, "raw", length))
    },
    error = function(e) NULL
  )
  if (length(answer) < length(question)) {
    return(NULL)
  }
  code <- answer[[4]] %% 16
  list(addresses = if (code != 3) sort(a_records(answer, length(question))))
}

# Each answer: the name as a pointer of 2 bytes, type, class, TTL (4 bytes), length, data.
a_records <- function(answer, at) {
  number <- function(at) answer[[at + 1]] * 256 + answer[[at + 2]]
  addresses <- character()
  for (i in seq_len(number(6))) {
    length <- number(at + 10)
    if (number(at + 2) == 1) addresses <- c(addresses, paste(answer[at + 12 + 1:4], collapse = "."))
    at <- at + 12 + length
  }
  addresses
}

# A port that nobody uses on any address of this machine, and that no outgoing connection gets.
free_port <- function() {
  wait_until(
    {
      port <- sample(20000:32000, 1)
      socket <- tryCatch(suppressWarnings(serverSocket(port)), error = function(e) NULL)
      if (!is.null(socket)) close(socket)
      if (!is.null(socket)) port
    },
    what = "a free port"
  )
}
