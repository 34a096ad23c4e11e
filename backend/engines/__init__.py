"""Who runs a job file: processes of this machine, computers behind ssh, Ray, a farm. The job knows none."""
