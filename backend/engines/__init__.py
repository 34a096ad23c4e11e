"""Who runs a job file: this machine's processes, or a render farm. The job knows none of them."""
