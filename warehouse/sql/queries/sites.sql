-- Question: which places does the warehouse know? Grain: site.
SELECT id, kind, name, lat, lon, country, provider, metro FROM site ORDER BY id;
