"""Reports of an audit; they know nothing but :mod:`auditor.results`."""

from reports.compared import comparison_table, write_comparison
from reports.forecast import check_table, cost_table
from reports.formats import FILES, write_report
from reports.histories import history_table
from reports.images_csv import images_csv
from reports.pdf import render, render_first_page, write_pdf
from reports.snippet import captum_snippet
from reports.style import PAPERS
from reports.summary import summary_table

__all__ = [
    "FILES",
    "PAPERS",
    "captum_snippet",
    "check_table",
    "comparison_table",
    "cost_table",
    "history_table",
    "images_csv",
    "render",
    "render_first_page",
    "summary_table",
    "write_comparison",
    "write_pdf",
    "write_report",
]
