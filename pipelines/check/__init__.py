"""`eventkit check`: an audit of raw recordings before days are spent on converting them."""
