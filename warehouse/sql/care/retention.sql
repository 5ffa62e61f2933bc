-- Question: how long is what kept? Grain: kind. Units: days; NULL: for ever.
SELECT name, keep_days, meaning FROM retention ORDER BY name;
