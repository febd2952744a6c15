-- How often tenants have used the registry on a day, for quotas. `rustaccio_schema_migrations` says
-- that this has been run.
CREATE TABLE rustaccio_quota_usage (
    day        text   NOT NULL,
    tenant_key text   NOT NULL,
    metric     text   NOT NULL,
    used       bigint NOT NULL CHECK (used >= 0),
    PRIMARY KEY (day, tenant_key, metric)
);
