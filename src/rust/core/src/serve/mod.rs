//! The worker's own side: an HTTP/1.1 server that hands requests to whatever handles them, one at a time.
