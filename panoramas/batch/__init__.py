"""`panoramas batch`: a file of requests becomes a folder of pictures, each once, whatever is interrupted."""
