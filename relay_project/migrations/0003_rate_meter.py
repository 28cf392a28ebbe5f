from django.db import migrations

FORWARDS = """
-- What a subject (a key, a person, a project) used in the second, minute, hour and day that each number names. Windows are
-- those of the clock (UTC). A crash of the database may forget it.
CREATE UNLOGGED TABLE rate_meter (
  subject text PRIMARY KEY,
  second bigint NOT NULL,
  in_second bigint NOT NULL,
  minute bigint NOT NULL,
  in_minute bigint NOT NULL,
  hour bigint NOT NULL,
  in_hour bigint NOT NULL,
  day bigint NOT NULL,
  in_day bigint NOT NULL
) WITH (fillfactor = 50);

-- Uses `cost` of all windows, or of none: `refused` is then the one without room. A limit that is NULL is none. The row's
-- lock is held until the caller's (auto)commit, so callers come one after the other, and the clock is read after it.
-- A second may be overdrawn by one call (a batch); what is too much is taken off the seconds that follow.
-- A function, because its statements keep their plans: half the cost of the same as one INSERT … ON CONFLICT.
CREATE FUNCTION meter_use(
  who text, cost bigint, per_second bigint, per_minute bigint, per_hour bigint, per_day bigint,
  moment double precision DEFAULT NULL,
  OUT refused text, OUT at bigint, OUT used_second bigint, OUT used_minute bigint, OUT used_hour bigint,
  OUT used_day bigint
) LANGUAGE plpgsql AS $$
DECLARE
  was rate_meter;
BEGIN
  LOOP
    SELECT * INTO was FROM rate_meter m WHERE m.subject = who FOR UPDATE;
    EXIT WHEN FOUND;
    INSERT INTO rate_meter VALUES (who, 0, 0, 0, 0, 0, 0, 0, 0) ON CONFLICT (subject) DO NOTHING;
  END LOOP;
  at := floor(coalesce(moment, extract(epoch FROM clock_timestamp())));
  used_second := CASE WHEN at < was.second OR was.in_second = 0 THEN 0
                      ELSE greatest(was.in_second - coalesce(per_second, was.in_second) * (at - was.second), 0) END;
  used_minute := CASE WHEN was.minute = at / 60 THEN was.in_minute ELSE 0 END;
  used_hour := CASE WHEN was.hour = at / 3600 THEN was.in_hour ELSE 0 END;
  used_day := CASE WHEN was.day = at / 86400 THEN was.in_day ELSE 0 END;
  refused := CASE WHEN used_day + cost > per_day THEN 'day' WHEN used_hour + cost > per_hour THEN 'hour'
                  WHEN used_minute + cost > per_minute THEN 'minute' WHEN used_second >= per_second THEN 'second' END;
  IF refused IS NULL THEN
    used_second := used_second + cost;
    used_minute := used_minute + cost;
    used_hour := used_hour + cost;
    used_day := used_day + cost;
    UPDATE rate_meter m
       SET second = at, in_second = used_second, minute = at / 60, in_minute = used_minute,
           hour = at / 3600, in_hour = used_hour, day = at / 86400, in_day = used_day
     WHERE m.subject = who;
  END IF;
END $$;
"""

BACKWARDS = """
DROP FUNCTION meter_use(text, bigint, bigint, bigint, bigint, bigint, double precision);
DROP TABLE rate_meter;
"""


class Migration(migrations.Migration):
    dependencies = [("relay_project", "0002_retention_run")]
    operations = [migrations.RunSQL(FORWARDS, BACKWARDS)]
