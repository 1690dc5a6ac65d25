"""What other tools read or wrote: adapters, exports, published weights."""
