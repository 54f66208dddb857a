//! Margins: revenue, cost, projection, what-if and advice, read from the ledger; never on the request path.
