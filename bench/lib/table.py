"""A Markdown table that is also readable as it is."""


def table(head, rows):
    cells = [[str(cell) for cell in row] for row in [head, *rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |" for row in cells]
    lines.insert(1, "| " + " | ".join("-" * width for width in widths) + " |")
    return "\n".join(lines)


def number(value, digits=2, unit=""):
    """A dash for what was not measured."""
    return "-" if value is None else f"{value:,.{digits}f}{unit}"
