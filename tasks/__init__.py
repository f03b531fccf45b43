"""What happens to a job: intake, dispatch, execution, maintenance."""
