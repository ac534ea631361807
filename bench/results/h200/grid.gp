# Draws the .svg and the .png beside this script from the .tsv: run gnuplot in this folder.
set encoding utf8
set datafile separator "\t"
set title 'grid: wall (µs) against scales'."\n".'layers=16, NVIDIA H200'
set xlabel 'scales'
set ylabel 'wall (µs), median and quartiles'
set grid back lt 1 dt 1 lc rgb '#d8d8d8' lw 1
set border 3
set xtics nomirror
set ytics nomirror
set key outside right top vertical Left reverse samplen 2 noenhanced
set key title 'how, vectors' left
set logscale x
set xtics ('1' 1, '2' 2, '4' 4, '8' 8, '16' 16)
set xrange [0.87055056329612412:18.379173679952562]
set logscale y
set ytics ('100' 100, '200' 200, '500' 500, '1000' 1000, '2000' 2000, '5000' 5000, '10000' 10000, '20000' 20000)
set yrange [50.259379916017515:23871.591535971249]
set terminal svg size 960,560 dynamic noenhanced font 'Helvetica,Arial,sans-serif,15' background 'white'
set output 'grid.svg'
plot 'grid.tsv' index 0 using 1:2:3:4 with yerrorlines lc rgb '#0072B2' lw 2 pt 7 ps 1 title 'batch, 1', \
     'grid.tsv' index 1 using 1:2:3:4 with yerrorlines lc rgb '#D55E00' lw 2 pt 5 ps 1 title 'batch, 8', \
     'grid.tsv' index 2 using 1:2:3:4 with yerrorlines lc rgb '#009E73' lw 2 pt 9 ps 1 title 'alone, 1', \
     'grid.tsv' index 3 using 1:2:3:4 with yerrorlines lc rgb '#CC79A7' lw 2 pt 13 ps 1 title 'alone, 8'
set terminal pngcairo size 1920,1120 noenhanced font 'Sans,15' fontscale 1.9 linewidth 2 pointscale 2
set output 'grid.png'
replot
set output
