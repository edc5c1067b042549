# Chains of functions in a text, and where calls go. The server reads the text: here, it is only told from a name.

# A function's name, or a path below it, has none of these.
is_chain <- function(name) {
  rlang::is_string(name) && grepl("[|()=[:space:]]", name)
}

# How long the server's own word on a deadline may take to come, in seconds, before a chain's caller gives up.
deadline_grace <- 5

# Where a call goes: the path with its query, the method, and how long to wait. `given` is what check_call() returns.
call_target <- function(name, options, given, call = NULL) {
  if (!is_chain(name) && !given$buffer && !given$async) {
    query <- call_query(options, call = call)
    path <- paste0(call_path(name, call = call), query)
    return(list(path = path, method = given$method, patience = given$timeout))
  }
  chain <- chain_text(name, options, call = call)
  if (given$method != "POST") {
    abort("option", "{.arg method} is for an API's own routes: this is a call by {.val POST}.", option = "method", call = call)
  }
  finite <- function(seconds) if (isTRUE(is.finite(seconds))) format(seconds, scientific = FALSE, digits = 15)
  query <- list(chain = chain, timeout = finite(given$timeout))
  if (given$buffer) query$buffer <- "1"
  if (given$async) {
    query$callback <- given$callback
    query$result_ttl <- finite(given$result_ttl)
    if (given$retry) query$retry <- "1"
    # What is waited for is that the input was taken.
    return(list(path = with_query("/async", query), method = "POST", patience = Inf))
  }
  list(path = with_query("/invoke", query), method = "POST", patience = given$timeout + deadline_grace)
}

# The text of a chain, or of one function with its options.
chain_text <- function(name, options, call = NULL) {
  if (is_chain(name)) {
    if (length(options) > 0) {
      abort("option", c(
        "The options of a chain are in its text, and these are given beside it: {.arg {names(options)}}.",
        i = "Such as {.code invoke(\"sed e=s/hate/love/ | to-upper\", input)}."
      ), option = names(options)[[1]] %||% NA_character_, call = call)
    }
    return(enc2utf8(name))
  }
  name <- check_function_name(name, call = call)
  check_option_names(options, call = call)
  pairs <- unlist(Map(function(option, value) {
    texts <- option_texts(option, value, call = call)
    plain <- grepl("^[A-Za-z.][A-Za-z0-9._]*$", option)
    paste0(if (plain) option else quote_option(option), " = ", quote_option(texts), recycle0 = TRUE)
  }, names(options), unname(options)), use.names = FALSE)
  if (length(pairs) == 0) name else paste0(name, "(", paste(pairs, collapse = ", "), ")")
}

# As a chain takes any text.
quote_option <- function(texts) {
  paste0("'", gsub("(['\\\\])", "\\\\\\1", enc2utf8(as.character(texts))), "'", recycle0 = TRUE)
}

# How much of a chain is shown to each side of what is wrong in it, in characters.
shown_beside <- 60

# The chain, and below it a mark under the column that the server complains of (from 1).
show_column <- function(chain, column) {
  column <- as_number(column)
  if (is.na(column) || !rlang::is_string(chain) || !validUTF8(chain)) {
    return(NULL)
  }
  characters <- strsplit(gsub("[[:cntrl:]]", " ", enc2utf8(chain)), "")[[1]]
  # It may be the end that is wrong.
  column <- min(max(column, 1), length(characters) + 1)
  first <- max(1, column - shown_beside)
  last <- min(length(characters), column + shown_beside)
  before <- paste0(if (first > 1) "...", paste(characters[seq_len(column - first) + first - 1], collapse = ""))
  after <- paste(characters[seq_len(max(0, last - column + 1)) + column - 1], collapse = "")
  after <- paste0(after, if (last < length(characters)) "...")
  c(" " = paste0(before, after), " " = paste0(strrep(" ", nchar(before, "width")), "^"))
}
