#' Write what runs an API on Kubernetes
#'
#' `use_k8s()` writes a folder `k8s` beside an API's code: Dockerfiles, and manifests for pods that run R, one worker
#' each, and for fronts before them, which run [run_k8s()]. They are yours to change: what was chosen, and why, stands in
#' their comments and in `vignette("kubernetes", package = "faucet")`.
#'
#' @section What is written:
#' - `api.Dockerfile`: the image with faucet, R packages and the API. It builds on the image `faucet`, from a checkout of
#'   faucet: see `system.file("docker/Dockerfile", package = "faucet")`. `api.Dockerfile.dockerignore` says what stays out.
#' - `api.yaml`: the pods of that image (Deployment `<name>-workers`), and a headless Service of the same name, which
#'   resolves to the pods' addresses; and a NetworkPolicy that leaves the pods to the fronts.
#' - `front.Dockerfile`: the image of the front.
#' - `front.yaml`: two fronts (Deployment `<name>-front`), and the Service `<name>` that clients talk to.
#' - `hpa.yaml`: an example of scaling the pods by the length of the queue, from `replicas` to four times as many. It
#'   needs Prometheus and its adapter.
#'
#' The same files for an API called hello are in `system.file("k8s", package = "faucet")`.
#'
#' @param dir Directory with the API, as [run()] takes it. The folder `k8s` is made in it.
#' @param name Name of the API, which everything on Kubernetes is named after. A label as Kubernetes takes it for services:
#'   at most 55 lower-case letters, digits and `-`, the first of them a letter and the last no `-`. By default the directory's
#'   name, made to be one: that of `apis/Sales_2` is `sales-2`.
#' @param image Name of the API's image, with the registry that the cluster gets it from, and a tag:
#'   `"registry.example.org/team/hello:1"`. By default `"<name>:1"`. Without a tag, `:1` is added. The front's image is
#'   called the same, with `-front` before the tag.
#' @param replicas Number of pods that run R: so many requests are worked on at a time.
#' @param fronts Addresses that the cluster gives to its pods, in CIDR notation: what pods of R believe of requests, and who
#'   may ask them for turns, goes by these. By default all private ranges, which is right in any cluster and wider than
#'   necessary. `kubectl cluster-info dump | grep -m1 cluster-cidr` tells many clusters' own, `"10.244.0.0/16"` or so.
#' @param overwrite Whether to replace files that are there already. Else nothing is written.
#'
#' @return The paths of the files, invisibly.
#'
#' @section Error conditions:
#' All inherit from `faucet_error`. When one is raised, nothing was written.
#'
#' - `faucet_error_option`: `name`, `image`, `replicas`, `fronts` or `overwrite` is not as it must be. Field `option`: which.
#' - `faucet_error_dir`: `dir` does not exist, holds nothing that faucet can run, or no folder can be made in it.
#' - `faucet_error_exists`: some of the files exist. Field `files`: their paths.
#'
#' @seealso [run_k8s()]
#' @export
#' @examples
#' api <- file.path(tempdir(), "api")
#' dir.create(api)
#' file.copy(system.file("examples/hello/plumber.R", package = "faucet"), api)
#'
#' files <- use_k8s(api, name = "hello", image = "registry.example.org/team/hello:1")
#' basename(files)
#' unlink(api, recursive = TRUE)
use_k8s <- function(dir = ".", name = NULL, image = NULL, replicas = 4, fronts = NULL, overwrite = FALSE) {
  call <- rlang::current_env()
  path <- check_app(dir, call = call)
  name <- check_k8s_name(name %||% k8s_name_of(path), call = call)
  image <- check_k8s_image(image, name, call = call)
  replicas <- check_setting(replicas, "replicas", setting("count", 4L, "", min = 1, max = 10000), call = call)
  fronts <- check_k8s_fronts(fronts, call = call)
  overwrite <- check_setting(overwrite, "overwrite", setting("flag", FALSE, ""), call = call)
  if (!is.null(find_shiny(path, call = call))) {
    abort("unsupported", c(
      "The fronts in Kubernetes send each request to any pod, and a session of Shiny is in one process.",
      i = "Run {.fun faucet::run} in the pods, and {.code sessionAffinity: ClientIP} in the Service before them."
    ), call = call)
  }

  files <- k8s_files()
  paths <- file.path(path, "k8s", files)
  check_not_there(paths, files, path, overwrite, call = call)
  from <- system.file("k8s", files, package = "faucet", mustWork = TRUE)
  texts <- lapply(from, function(file) fill_k8s(readLines(file), name, image, replicas, fronts))
  make_dir(file.path(path, "k8s"), call = call)
  Map(write_lines, texts, paths)

  show_k8s_steps(files, name, image, path)
  invisible(paths)
}

k8s_files <- function() {
  c("api.Dockerfile", "api.Dockerfile.dockerignore", "api.yaml", "front.Dockerfile", "front.yaml", "hpa.yaml")
}

# The installed files are no templates but a whole example, for an API called hello: so they can be applied and
# validated as they are. All is replaced in one go: what was filled in is not looked at again.
fill_k8s <- function(lines, name, image, replicas, fronts = private_ranges) {
  values <- c(
    "hello-front:1" = front_image(image),
    "hello:1" = image,
    "hello" = name,
    "maxReplicas: 16" = paste("maxReplicas:", 4L * replicas),
    "minReplicas: 4" = paste("minReplicas:", replicas),
    "replicas: 4" = paste("replicas:", replicas),
    rlang::set_names(paste(fronts, collapse = ","), paste(private_ranges, collapse = ","))
  )
  pattern <- paste0("(?<![[:alnum:]])(", paste(names(values), collapse = "|"), ")(?![[:alnum:]])")
  found <- gregexpr(pattern, lines, perl = TRUE)
  regmatches(lines, found) <- lapply(regmatches(lines, found), function(these) unname(values[these]))
  lines
}

# RFC 1918, RFC 6598 and RFC 4193.
private_ranges <- c("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")

check_k8s_fronts <- function(fronts, call = NULL) {
  fronts <- fronts %||% private_ranges
  fronts <- check_setting(fronts, "fronts", setting_definitions()$fronts, call = call)
  problem <- option_problem("fronts", paste(fronts, collapse = ","))
  if (length(fronts) == 0 || !is.null(problem)) {
    got <- describe_value(fronts)
    abort(
      "option", "{.arg fronts} must be addresses in CIDR notation like {.val 10.244.0.0/16}, not {got}.",
      option = "fronts", call = call
    )
  }
  trimws(fronts)
}

front_image <- function(image) {
  sub("(:[^:/]+)$", "-front\\1", image)
}

# What is left of a directory's name in a name that Kubernetes takes.
k8s_name_of <- function(path) {
  name <- gsub("[^a-z0-9]+", "-", tolower(basename(normalizePath(path))))
  name <- gsub("^-|-$", "", name)
  if (!grepl("^[a-z]", name) || name %in% yaml_words) name <- paste0("api-", name)
  # Nothing may be left of it, and the end of a long one may be a hyphen.
  sub("-$", "", substr(name, 1, longest_k8s_name))
}

# Names of Services are labels of at most 63 characters, also the longest one that is made of this.
longest_k8s_name <- 63L - nchar("-workers")

# To YAML they are no strings.
yaml_words <- c("true", "false", "null", "yes", "no", "on", "off", "y", "n")

# A name of a Service: a label of RFC 1123 that begins with a letter.
check_k8s_name <- function(name, call = NULL) {
  longest <- longest_k8s_name
  if (!rlang::is_string(name) || nchar(name) > longest || !grepl("^[a-z]([-a-z0-9]*[a-z0-9])?$", name)) {
    got <- describe_value(name)
    abort("option", c(
      "{.arg name} must be a name that Kubernetes takes, not {got}.",
      i = "That is at most {longest} lower-case letters, digits and {.code -}, a letter first and no {.code -} last."
    ), option = "name", call = call)
  }
  if (name %in% yaml_words) {
    abort("option", "{.arg name} must not be {.val {name}}, which is no string in YAML.", option = "name", call = call)
  }
  name
}

check_k8s_image <- function(image, name, call = NULL) {
  image <- image %||% name
  part <- "[a-z0-9]+([._-]+[a-z0-9]+)*"
  form <- paste0("^", part, "(:[0-9]+(?=/))?(/", part, ")*(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?$")
  if (!rlang::is_string(image) || !grepl(form, image, perl = TRUE)) {
    got <- describe_value(image)
    abort("option", c(
      "{.arg image} must be the name of an image, not {got}.",
      i = "Such as {.val registry.example.org/team/{name}:1}: in lower case, with a tag and without a digest."
    ), option = "image", call = call)
  }
  if (grepl(":[^/]+$", image)) image else paste0(image, ":1")
}

check_not_there <- function(paths, files, path, overwrite, call = NULL) {
  there <- file.exists(paths)
  if (any(there) && !overwrite) {
    shown <- file.path("k8s", files[there])
    abort("exists", c(
      "{.file {shown}} exist{?s/} in {.path {path}} already.",
      i = "Nothing was written. {.code overwrite = TRUE} replaces {cli::qty(shown)}{?it/them}."
    ), files = paths[there], call = call)
  }
}

make_dir <- function(path, call = NULL) {
  made <- dir.exists(path) || dir.create(path, showWarnings = FALSE)
  if (!made || file.access(path, 2) != 0) {
    abort("dir", "Cannot write to {.path {path}}.", dir = path, call = call)
  }
}

# The same bytes on every system.
write_lines <- function(lines, path) {
  con <- file(path, "wb")
  on.exit(close(con))
  writeLines(lines, con, sep = "\n", useBytes = TRUE)
}

show_k8s_steps <- function(files, name, image, path) {
  cli::cli_text("In {.path {path}}:")
  cli::cli_bullets(rlang::set_names(paste0("Wrote {.file ", file.path("k8s", files), "}"), "v"))
  cli::cli_text("Next, there:")
  # As they are, to be copied: no line is wrapped.
  cli::cli_verbatim(
    "  # Once, in a checkout of faucet: the image that both build on",
    "  docker build -f inst/docker/Dockerfile -t faucet .",
    "  # Both images. Name the API's R packages in k8s/api.Dockerfile",
    paste("  docker build -f k8s/api.Dockerfile -t", image, "."),
    paste("  docker build -f k8s/front.Dockerfile -t", front_image(image), "."),
    if (grepl("/", image, fixed = TRUE)) {
      c("  # To the registry", paste("  docker push", c(image, front_image(image))))
    } else {
      c(
        "  # To a cluster on this machine (or: minikube image load)",
        paste("  kind load docker-image", image, front_image(image))
      )
    },
    "  kubectl apply -f k8s/api.yaml -f k8s/front.yaml",
    paste0("  kubectl rollout status deployment/", name, "-front"),
    "  # A way to it from here, and in another terminal a request",
    paste0("  kubectl port-forward service/", name, " 8080:80"),
    "  curl -i http://127.0.0.1:8080/"
  )
  cli::cli_text("Why everything is as it is: {.code vignette(\"kubernetes\", package = \"faucet\")}")
}
