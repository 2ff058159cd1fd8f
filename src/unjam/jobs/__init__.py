"""What a job is: model, lifecycle, retry, stall, progress, reasons, messages. Pure: no I/O, no clock of its own."""
