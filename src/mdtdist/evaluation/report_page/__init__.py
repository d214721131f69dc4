"""The report: what was measured, beside what was published, as one HTML page and as Markdown."""

from mdtdist.evaluation.report_page.write import Report, write_report

__all__ = ["Report", "write_report"]
