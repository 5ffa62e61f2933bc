"""The figures: pure functions from columns and records to Plotly figures, one module for each kind of question.

Times are sent as milliseconds since 1970 and numbers as float32; a gap is NaN and is drawn as a gap, never as zero.
"""
