library(shiny)

onStop(function() cat("stopped", Sys.getpid(), "\n", file = "stopped", append = TRUE))

shinyApp(
  fluidPage(
    numericInput("n", "n", 0), textOutput("where"), downloadButton("data"), tags$a(href = "data/file", "file")
  ),
  function(input, output, session) {
    output$where <- renderText(paste("pid", Sys.getpid(), "n", input$n, session$clientData$url_pathname))
    output$data <- downloadHandler("data.txt", function(file) writeLines(as.character(Sys.getpid()), file))
  }
)
