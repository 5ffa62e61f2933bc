-- Question: when did a flow's way change, and where? Grain: one trace of a flow that went another way than its trace before. Stable.
-- A silent hop says nothing: it is no change, though the hashes differ. Paths of different length differ where the shorter reached its target.
CREATE OR REPLACE VIEW path_changes AS
SELECT
    src, dst, medium, protocol, flow, started_at, previous_started_at, changed_ttl,
    previous_addresses[changed_ttl] AS previous_address,
    addresses[changed_ttl] AS address,
    len(addresses) - len(previous_addresses) AS added_hop_count,
    previous_path_hash, path_hash, measurement_id
FROM (
    SELECT
        *,
        coalesce(
            list_first(
                [
                    ttl FOR ttl IN range(1, least(len(addresses), len(previous_addresses)) + 1)
                    IF addresses[ttl] IS NOT NULL AND previous_addresses[ttl] IS NOT NULL AND addresses[ttl] <> previous_addresses[ttl]
                ]
            ),
            CASE
                WHEN len(addresses) < len(previous_addresses) AND reached THEN len(addresses)
                WHEN len(previous_addresses) < len(addresses) AND previous_reached THEN len(previous_addresses)
            END
        ) AS changed_ttl
    FROM (
        SELECT
            src, dst, medium, protocol, flow, started_at, reached, path_hash, measurement_id,
            [h.address FOR h IN hops] AS addresses,
            lag([h.address FOR h IN hops]) OVER flows AS previous_addresses,
            lag(reached) OVER flows AS previous_reached,
            lag(started_at) OVER flows AS previous_started_at,
            lag(path_hash) OVER flows AS previous_path_hash
        FROM valid_traceroute
        WINDOW flows AS (PARTITION BY src, dst, medium, protocol, target, flow ORDER BY started_at, measurement_id)
    )
    WHERE previous_addresses IS NOT NULL AND path_hash <> previous_path_hash
)
WHERE changed_ttl IS NOT NULL;
COMMENT ON VIEW path_changes IS 'Every change of a flow''s path: when, and from which hop on';
INSERT INTO view_column VALUES
('path_changes', 'src', 'Site id of the agent; never NULL'),
('path_changes', 'dst', 'Site id of the target; never NULL'),
('path_changes', 'medium', 'internet, backbone or direct-connect; never NULL'),
('path_changes', 'protocol', 'icmp, udp or tcp; never NULL'),
('path_changes', 'flow', 'Flow among those of the target, from 0; never NULL'),
('path_changes', 'started_at', 'When the first trace of the new way began, UTC; never NULL'),
('path_changes', 'previous_started_at', 'When the last trace of the old way began, UTC; never NULL'),
('path_changes', 'changed_ttl', 'First TTL at which the two certainly differ; never NULL'),
('path_changes', 'previous_address', 'Who answered there before; NULL: nobody'),
('path_changes', 'address', 'Who answers there now; NULL: nobody'),
('path_changes', 'added_hop_count', 'How many hops the path became longer, negative when shorter; never NULL'),
('path_changes', 'previous_path_hash', 'Hash of the old path; never NULL'),
('path_changes', 'path_hash', 'Hash of the new path; never NULL'),
('path_changes', 'measurement_id', 'The first trace of the new way; never NULL');
