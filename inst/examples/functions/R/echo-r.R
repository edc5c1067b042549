# With `stream: true`, the first two arguments read the input and write the output, piece by piece.
function(input, output) {
  while (!is.null(piece <- input$read())) output$write(piece)
}
