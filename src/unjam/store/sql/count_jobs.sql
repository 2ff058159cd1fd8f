SELECT j.state, count(*) AS jobs FROM job AS j WHERE true
