SELECT j.seq FROM job AS j WHERE true
