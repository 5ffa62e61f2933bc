-- Question: what does each column mean? Grain: table or view, column.
SELECT name, column_name, data_type, comment FROM data_dictionary ORDER BY name, column_index;
