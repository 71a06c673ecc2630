"""What outlives the process: a database that is made when something is to be kept, with its secrets sealed."""
