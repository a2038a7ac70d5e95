-- Events that don't leave a service's database are something to look at, too.
ALTER TABLE alarms
    DROP CONSTRAINT alarms_kind_check,
    ADD CONSTRAINT alarms_kind_check CHECK (kind IN ('stuck', 'mismatched', 'dead-letter', 'lag', 'outbox'));
