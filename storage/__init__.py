"""The SQL store of every study: trials, measurements, the ledger, posteriors, recommendations."""
