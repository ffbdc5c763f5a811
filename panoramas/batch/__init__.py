"""`panoramas batch`: a file of requests becomes a folder of pictures. A run can be interrupted and resumed."""
