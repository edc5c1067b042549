# A Shiny app on two workers, for as many browsers as come:
#
#   faucet::run(system.file("examples/shiny", package = "faucet"), workers = 2)
#
# Each browser stays with one worker, whose number and process the page shows. With `slots = 1`, each has a worker of its own.
library(shiny)

ui <- fluidPage(
  titlePanel("Old Faithful"),
  sidebarLayout(
    sidebarPanel(
      sliderInput("bins", "Bins", min = 5, max = 50, value = 20),
      actionButton("count", "Count"),
      downloadButton("data", "Data")
    ),
    mainPanel(plotOutput("waiting"), verbatimTextOutput("where"))
  )
)

server <- function(input, output, session) {
  output$waiting <- renderPlot({
    hist(faithful$waiting, breaks = input$bins, col = "steelblue", border = "white", main = NULL, xlab = "Minutes to wait")
  })
  output$where <- renderText({
    paste0("worker ", Sys.getenv("FAUCET_WORKER_ID"), ", process ", Sys.getpid(), ", counted ", input$count)
  })
  output$data <- downloadHandler("faithful.csv", function(file) write.csv(faithful, file, row.names = FALSE))
}

shinyApp(ui, server)
