# What a file ends with is the function, if nothing in it has the function's name.
function(text) toupper(text)
