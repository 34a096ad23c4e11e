"""Who runs a job file: this machine's processes, a Ray cluster, a render farm. The job knows none of them."""
