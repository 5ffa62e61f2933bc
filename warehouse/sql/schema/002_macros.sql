-- The log buckets of records/histogram.py in SQL: bucket i holds x with 1.02^(i-1) < x <= 1.02^i (0 holds 0 and 1 ns) and
-- stands for 2 * 1.02^i / 2.02 ns, so that any quantile is within 0.99 %. Buckets merge by adding their counts.
CREATE MACRO rtt_bucket(rtt_ns) AS
    CASE WHEN rtt_ns > 1 THEN CAST(ceil(ln(rtt_ns) / ln(1.02::DOUBLE)) AS INTEGER) ELSE 0 END;
CREATE MACRO rtt_bucket_value_ns(bucket) AS 2 * pow(1.02::DOUBLE, bucket) / 2.02;

-- Least possible RTT over fibre between two points in ns: there and back along the great circle (haversine, mean radius
-- 6371.0088 km) at two thirds of c, as in records/place.py.
CREATE MACRO fibre_floor_ns(lat_a, lon_a, lat_b, lon_b) AS
    (4e9::DOUBLE * 6371.0088::DOUBLE / (299792.458::DOUBLE * 2 / 3)) * asin(least(1::DOUBLE, sqrt(
        pow(sin(radians(lat_b - lat_a) / 2), 2) + cos(radians(lat_a)) * cos(radians(lat_b)) * pow(sin(radians(lon_b - lon_a) / 2), 2)
    )));
