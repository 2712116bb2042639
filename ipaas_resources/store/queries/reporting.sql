-- name: reports_due
-- What is to be told, summed per asset, those left out that were told of a moment ago; and how many rows lie there.
WITH held AS MATERIALIZED (
    SELECT * FROM json_to_recordset(CAST(:held AS json)) AS h(flow text, target text)
), d AS MATERIALIZED (
    SELECT r.* FROM report_due r
     WHERE NOT EXISTS (SELECT 1 FROM held h WHERE h.flow = r.flow AND h.target = r.target)
), summed AS (
    SELECT flow, target, jsonb_object_agg(outcome, items) AS counts
      FROM (SELECT d.flow, d.target, c.key AS outcome, sum(c.value::bigint) AS items
              FROM d CROSS JOIN LATERAL jsonb_each_text(d.counts) AS c GROUP BY 1, 2, 3) x
     GROUP BY 1, 2
)
SELECT d.flow, d.target, max(d.flow_version) AS flow_version, array_agg(d.report) AS reports, min(d.at) AS since,
       (array_agg(d.trace_id ORDER BY d.report DESC))[1] AS trace_id,
       (SELECT s.counts::text FROM summed s WHERE s.flow = d.flow AND s.target = d.target) AS counts
  FROM d GROUP BY d.flow, d.target
 ORDER BY min(d.at)

-- name: reports_told
DELETE FROM report_due WHERE report = ANY(CAST(:reports AS bigint[]))

-- name: reports_many
-- Whether more rows lie there than one look should read.
SELECT count(*) > :most AS many FROM (SELECT 1 FROM report_due LIMIT :most + 1) x

-- name: reports_compact
-- One row per asset and version instead of the oldest of many, with their sums: a busy minute, or a day without a
-- reporter, must not make every look longer.
WITH gone AS (
    DELETE FROM report_due WHERE report IN (SELECT report FROM report_due ORDER BY report LIMIT :chunk)
    RETURNING report, flow, target, flow_version, counts, trace_id, at
), outcomes AS (
    SELECT g.flow, g.target, g.flow_version, c.key AS outcome, sum(c.value::bigint) AS items
      FROM gone g CROSS JOIN LATERAL jsonb_each_text(g.counts) AS c GROUP BY 1, 2, 3, 4
), summed AS (
    SELECT flow, target, flow_version, jsonb_object_agg(outcome, items) AS counts FROM outcomes GROUP BY 1, 2, 3
), kept AS (
    INSERT INTO report_due (flow, target, flow_version, counts, trace_id, at)
    SELECT s.flow, s.target, s.flow_version, s.counts, g.trace_id, g.at
      FROM summed s
      JOIN (SELECT flow, target, flow_version, (array_agg(trace_id ORDER BY report DESC))[1] AS trace_id, min(at) AS at
              FROM gone GROUP BY 1, 2, 3) g USING (flow, target, flow_version)
    RETURNING 1
)
SELECT (SELECT count(*) FROM gone) AS gone, (SELECT count(*) FROM kept) AS kept

-- name: report_note
-- What the live lane found in a source: told under the entity's own asset.
INSERT INTO report_due (flow, target, flow_version, counts, trace_id)
SELECT :entity, '', 0, CAST(:counts AS jsonb), :trace_id
