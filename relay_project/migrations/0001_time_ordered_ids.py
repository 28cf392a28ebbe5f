from django.db import migrations

FORWARDS = """
CREATE SEQUENCE new_id_seq AS bigint;

-- Milliseconds since 2020 << 12 | sequence modulo 4096. clock_timestamp(), not now(): a transaction that writes more than
-- 4096 rows would collide with itself. floor(), because a cast rounds half up and would make ids of the future.
CREATE FUNCTION new_id() RETURNS bigint LANGUAGE sql VOLATILE AS $$
  SELECT (floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint - 1577836800000) << 12
       | (nextval('new_id_seq') & 4095)
$$;

CREATE FUNCTION id_floor(timestamptz) RETURNS bigint LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
  SELECT (floor(extract(epoch FROM $1) * 1000)::bigint - 1577836800000) << 12
$$;

CREATE FUNCTION id_time(bigint) RETURNS timestamptz LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
  SELECT to_timestamp((($1 >> 12) + 1577836800000) / 1000.0)
$$;

-- One counter a (bucket, key) and window; a crash may forget it.
CREATE UNLOGGED TABLE rate_window (
  bucket text NOT NULL,
  key text NOT NULL,
  window_start timestamptz NOT NULL,
  count integer NOT NULL,
  PRIMARY KEY (bucket, key)
) WITH (fillfactor = 70);
"""

BACKWARDS = """
DROP TABLE rate_window;
DROP FUNCTION id_time(bigint);
DROP FUNCTION id_floor(timestamptz);
DROP FUNCTION new_id();
DROP SEQUENCE new_id_seq;
"""


class Migration(migrations.Migration):
    initial = True
    dependencies = []
    operations = [migrations.RunSQL(FORWARDS, BACKWARDS)]
