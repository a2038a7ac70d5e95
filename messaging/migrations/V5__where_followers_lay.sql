-- Where a follower lay first, when that isn't the topic of its event: it was put on one of the group's own topics. Null for
-- all others, and for what a release before this one keeps.
ALTER TABLE waiting_events ADD COLUMN origin_topic text;
