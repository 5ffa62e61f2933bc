"""The two drawings Plotly cannot give (a clickable offline map, a clickable heat map), as canvas components.

Their JavaScript lies in files of its own beside this one and takes data only: ids and labels are written as text, never
as markup.
"""
