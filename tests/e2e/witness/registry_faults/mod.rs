//! Registries that fail, stall or lie: the witness agent names each fault, signs nothing false, and goes on reporting
//! everything else.

mod credentials;
mod deleted_tags;
mod manifest_responses;
mod rate_limits_and_outages;
mod tag_lists;
