"""iniVation's AEDAT 1 to 4."""
