# Choices of a generator, which a seed decides.

# Runs `code` with the random numbers of a seed, the same in every version of R.
with_choices <- function(seed, code) {
  withr::with_seed(
    seed, code,
    .rng_kind = "Mersenne-Twister", .rng_normal_kind = "Inversion", .rng_sample_kind = "Rejection"
  )
}

pick <- function(from) {
  from[[sample.int(length(from), 1)]]
}

# So many of them, none twice.
pick_some <- function(from, count) {
  from[sample.int(length(from), min(count, length(from)))]
}

chance <- function(probability) {
  stats::runif(1) < probability
}

# One of several expressions, of which only that is evaluated.
either <- function(...) {
  choices <- rlang::enquos(...)
  rlang::eval_tidy(pick(choices))
}
