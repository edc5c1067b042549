# Certificates, by the openssl program.

# A directory with `ca.pem`, and `cert.pem` and `key.pem` that it vouches for; `days` below 1: they are out of time.
local_certificates <- function(name = "localhost", days = 30, env = parent.frame()) {
  skip_if_not(nzchar(Sys.which("openssl")), "openssl is not installed")
  dir <- withr::local_tempdir(pattern = "tls-", .local_envir = env)
  openssl(dir, c("req", "-x509", new_key("ca.key"), "-out", "ca.pem", "-days", "30", "-subj", paste0("/CN=CA-", basename(dir))))
  sign_certificate(dir, name, days)
  normalizePath(dir)
}

new_key <- function(file) {
  c("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", file)
}

# Writes another certificate over the one that was there.
sign_certificate <- function(dir, name = "localhost", days = 30, files = c("cert.pem", "key.pem")) {
  writeLines(paste0("subjectAltName=DNS:", name, ",IP:127.0.0.1"), file.path(dir, "names"))
  openssl(dir, c("req", new_key(files[[2]]), "-out", "request.pem", "-subj", paste0("/CN=", name)))
  openssl(dir, c(
    "x509", "-req", "-in", "request.pem", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-out", files[[1]],
    "-days", days, "-extfile", "names"
  ))
}

openssl <- function(dir, arguments) {
  processx::run("openssl", as.character(arguments), wd = dir)
}

# The setting.
tls_of <- function(dir, ...) {
  list(cert = file.path(dir, "cert.pem"), key = file.path(dir, "key.pem"), ...)
}

# What a client sees of the certificate: its number.
serial_of <- function(server) {
  at <- sub("^https://", "", address(server))
  shown <- processx::run("sh", c("-c", 'openssl s_client -connect "$0" </dev/null 2>/dev/null | openssl x509 -noout -serial', at))
  trimws(shown$stdout)
}
