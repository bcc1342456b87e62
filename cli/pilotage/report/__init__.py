"""The report of a run: figures.py (numbers, pure), breach.py (what led to a rollback), charts.py (SVG), page.py (HTML)."""
