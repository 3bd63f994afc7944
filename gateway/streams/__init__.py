"""A streamed reply on its way to the caller: screened, held where it must be, and passed on."""
